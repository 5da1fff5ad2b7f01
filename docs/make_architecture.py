"""Draws docs/architecture.svg: packages, and which imports which, from the table that the layer test checks.

python docs/make_architecture.py
"""

import runpy
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PICTURE = DOCS / "architecture.svg"
LAYER_TEST = DOCS.parent / "tests/package/test_layers.py"

WIDTH, BOX, HEIGHT, ROW = 760, 130, 38, 86  # px
HINTS = {
    "data": "tables",
    "model": "equations",
    "behaviour": "tasks, choice",
    "simulation": "cohorts in time",
    "choice_models": "fit of choices",
    "fitting": "shared by fits",
    "optimisation": "restore, pareto",
    "inference": "recover",
    "study": "application",
    "calibration": "scripts",
}


def allowed_imports() -> dict[str, set[str]]:
    """The packages that each package of `circuit/` may import, from the layer test."""
    table = runpy.run_path(str(LAYER_TEST))["MAY_IMPORT"]
    return {name: set(names.split()) for name, names in table.items()}


def direct_imports(allowed: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports that do not follow from others (the transitive reduction)."""
    below = {name: set().union(*(_reachable(other, allowed) for other in names)) for name, names in allowed.items()}
    return {name: names - below[name] for name, names in allowed.items()}


def _reachable(name: str, allowed: dict[str, set[str]]) -> set[str]:
    return allowed[name].union(*(_reachable(other, allowed) for other in allowed[name]))


def layers(direct: dict[str, set[str]]) -> list[list[str]]:
    """Packages by the longest way down, lowest first."""
    depth: dict[str, int] = {}
    for name in direct:  # the table lists what is imported before what imports it
        depth[name] = 1 + max((depth[other] for other in direct[name]), default=-1)
    return [[name for name in direct if depth[name] == level] for level in range(max(depth.values()) + 1)]


def draw() -> str:
    """The picture, as the text of an SVG file."""
    direct = direct_imports(allowed_imports())
    rows = layers(direct)
    place = {
        name: (round(WIDTH * (at + 1) / (len(row) + 1)), 30 + ROW * (len(rows) - 1 - level))
        for level, row in enumerate(rows)
        for at, name in enumerate(row)
    }
    bottom = ROW * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 60}" '
        'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5b6770"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{bottom + 60}" fill="#ffffff"/>',
    ]
    for name, others in direct.items():
        for other in sorted(others):
            (x, y), (to_x, to_y) = place[name], place[other]
            parts.append(
                f'<path d="M{x} {y + HEIGHT} C{x} {y + ROW - 20} {to_x} {to_y - 34} {to_x} {to_y - 1}" '
                'fill="none" stroke="#5b6770" stroke-width="1.4" marker-end="url(#tip)"/>'
            )
    for name, (x, y) in place.items():
        parts += _box(x - BOX // 2, y, BOX, name, HINTS[name], "#e8f1f8")
    parts += _box(60, bottom, WIDTH - 120, "kernels", "numerics, imported by all", "#f3eee3")
    return "\n".join([*parts, "</svg>", ""])


def _box(x: int, y: int, width: int, name: str, hint: str, fill: str) -> list[str]:
    middle = x + width // 2
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#5b6770"/>',
        f'<text x="{middle}" y="{y + 17}" font-size="14" font-weight="bold" fill="#1d2a33">{name}</text>',
        f'<text x="{middle}" y="{y + 31}" font-size="11" fill="#44525c">{hint}</text>',
    ]


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE, file=sys.stderr)
