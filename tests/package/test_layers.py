"""Imports point one way: a package of `circuit/` imports only the packages on its line, and has no circle inside."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "data": "",
    "model": "data",
    "behaviour": "data",
    "simulation": "model behaviour data",
    "choice_models": "behaviour",
    "fitting": "simulation model",
    "optimisation": "fitting simulation model",
    "inference": "fitting simulation model data",
    "study": "data model behaviour simulation choice_models fitting optimisation inference",
    "calibration": "data model behaviour simulation choice_models fitting optimisation inference study",
}


def dotted(path: Path) -> str:
    """The module's name below `habenula`: `circuit/study/__init__.py` is `circuit.study`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for folder in ("kernels", "circuit") for path in sorted((ROOT / folder).rglob("*.py"))}


def imported(name: str, path: Path) -> set[str]:
    """Every module of the project that the file at `path` imports, wherever in the file it does so."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:  # one dot is the package itself, each further dot its parent
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join(parents + (node.module.split(".") if node.module else []))
        elif (node.module or "").split(".")[0] == "habenula":
            source = node.module.removeprefix("habenula").removeprefix(".")
        else:
            continue
        for alias in node.names:
            module = f"{source}.{alias.name}".removeprefix(".")
            modules.add(module if module in FILES else source)
    return modules


IMPORTS = {name: imported(name, path) for name, path in FILES.items()}


def package(name: str) -> str:
    """`simulation` for `circuit.simulation.course`; `kernels` for all of `kernels`; empty for `circuit` itself."""
    parts = name.split(".")
    return parts[0] if parts[0] == "kernels" else "".join(parts[1:2])


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_package_imports_only_those_on_its_line(name):
    assert (ROOT / "circuit" / name / "__init__.py").is_file()
    allowed = {*MAY_IMPORT[name].split(), name, "kernels"}
    wrong = {
        module: sorted(others)
        for module, modules in IMPORTS.items()
        if package(module) == name and (others := {other for other in modules if package(other) not in allowed})
    }
    assert not wrong


def test_every_package_has_its_line_and_kernels_know_no_circuit():
    folders = {path.name for path in (ROOT / "circuit").iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(MAY_IMPORT)
    outside = {other for module, modules in IMPORTS.items() if package(module) == "kernels" for other in modules}
    assert {package(other) for other in outside} == {"kernels"}


def test_no_circle():
    """Of modules, packages' own `__init__` files left out, since they only collect names."""
    inits = {name for name, path in FILES.items() if path.name == "__init__.py"}
    graph = {name: modules - inits - {name} for name, modules in IMPORTS.items() if name not in inits}
    tuple(TopologicalSorter(graph).static_order())


def test_the_circuit_sees_the_kernels_as_one_package():
    inside = {
        module: sorted(others)
        for module, modules in IMPORTS.items()
        if module.startswith("circuit")
        and (others := {other for other in modules if other.startswith("kernels.") and other != "kernels.multiprocess"})
    }
    assert not inside, "import from the package `kernels`"
