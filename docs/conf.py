"""Sphinx: pages in Markdown (myst-nb), the notebooks with their kept outputs, and the API from docstrings.

    sphinx-build -W --keep-going docs build/docs

Copied or generated at the start of a build, and ignored by git: `docs/notebooks/`, from the folder of that name, and
`docs/generated/`, the tables of constants and of published figures.
"""

import csv
import re
import shutil
from collections import defaultdict
from importlib.metadata import version as installed_version
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "habenula"
author = "The habenula developers"
release = version = installed_version("habenula")
html_title = f"habenula {release}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "examples"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the outputs are committed; tests/package/test_notebooks.py runs the notebooks
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "none"  # shapes and units stand in the docstrings
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"
highlight_language = "text"

SECTIONS = {"Args:", "Attributes:", "Returns:", "Raises:", "Yields:", "Note:", "Example:", "Examples:", "References:"}

EMPHASIS = re.compile(r"(?<![\w*])\*(\w(?:[^*]*\w)?)\*(?![\w*])")


def escape_prose(line: str) -> str:
    """A line of a docstring, which is plain text with `code` in single backticks, as reStructuredText."""
    parts = re.split(r"(`+[^`]+`+)", line)
    for at, part in enumerate(parts):
        if part.startswith("`"):
            code = part.strip("`")
            after = parts[at + 1][:1] if at + 1 < len(parts) else ""
            parts[at] = f"``{code}``" + ("\\ " if after.isalnum() else "")
        else:
            words = EMPHASIS.split(part)  # every second one stands between single asterisks
            words = [re.sub(r"(\*|\||_(?=\W|$))", r"\\\1", word) for word in words]
            parts[at] = "".join(f"*{word}*" if place % 2 else word for place, word in enumerate(words))
    return "".join(parts)


def docstring_to_rst(app, what, name, obj, options, lines: list[str]) -> None:
    """Indented blocks become literal blocks, and the rest is escaped; sections of arguments are left to napoleon."""
    result: list[str] = []
    section = literal = example = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            example = False
            result.append(line)
            continue
        if indent == 0:
            section, literal = line.strip() in SECTIONS, False
        if section and indent == 0:
            result.append(line)
            continue
        example = example or line.lstrip().startswith(">>> ")
        if example or literal:
            result.append(line)
        elif not section and indent >= 4:
            literal = True
            result += ["::", "", line] if not result or not result[-1].strip() else ["", "::", "", line]
        else:
            result.append(escape_prose(line))
    lines[:] = result


def shorten_types(app, what, name, obj, options, lines: list[str]) -> None:
    """After napoleon: of the types that it takes from annotations, the shapes stay and the rest goes."""
    result = []
    for line in lines:
        if line.startswith(":vartype "):
            shape = re.search(r"jaxtyping\.(\w+)\[[^']*'([^']*)'\]", line)
            if shape is None:
                continue
            line = f"{line.split(': ')[0]}: ``{shape[1]}[{shape[2].strip()}]``"
        result.append(line)
    lines[:] = result


def write_constants(path: Path) -> None:
    """The table of constants as pages of Markdown tables, section by section."""
    sections = defaultdict(list)
    with (ROOT / "circuit/data/constants.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sections[row["name"].split(".")[0]].append(row)
    lines = []
    for section, rows in sections.items():
        lines += [f"## {section}", "", "| name | value | unit | status | source | note |", "|---|---:|---|---|---|---|"]
        for row in rows:
            cells = [row[key] for key in ("name", "value", "unit", "status", "source", "note")]
            lines.append("| " + " | ".join([f"`{cells[0]}`", *map(escape_cell, cells[1:])]) + " |")
        lines.append("")
    path.write_text("# Table of constants\n\n" + "\n".join(lines), encoding="utf-8")


def escape_cell(text: str) -> str:
    """Text of a cell, with nothing that Markdown would read as markup."""
    return re.sub(r"([\\|*_<>$\[\]])", r"\\\1", text)


def copy_sources(app) -> None:
    """What is rendered from elsewhere in the repository."""
    shutil.rmtree(DOCS / "notebooks", ignore_errors=True)
    shutil.copytree(ROOT / "notebooks", DOCS / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (DOCS / "generated").mkdir(exist_ok=True)
    write_constants(DOCS / "generated/constants.md")


def setup(app) -> None:
    """Hooks: sources before files are looked for, docstrings before napoleon reads them."""
    app.connect("config-inited", lambda app, config: copy_sources(app))
    app.connect("autodoc-process-docstring", docstring_to_rst, priority=100)
    app.connect("autodoc-process-docstring", shorten_types, priority=900)
