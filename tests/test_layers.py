"""Imports point one way: a module may import only from the layers above its own.

To add a module, write its name on a line of `LAYERS`. Modules on one line are siblings and do not import each other.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = """
kernels.exponential  kernels.rewriting  kernels.product
kernels.hoist
kernels.dialect  kernels.spread  kernels.linear
kernels.noise  kernels.schemes  kernels.statistics  kernels.derivative  kernels.plan  kernels.compile
kernels.processes  kernels.summary  kernels.carry
kernels.loop  kernels.tiles
kernels.fused  kernels.tangents
kernels.integrate
kernels

circuit.defaults  circuit.evidence  circuit.folders  circuit.long_format
circuit.hardware
circuit.pharmacokinetics
circuit.pharmacology  circuit.lateral_habenula  circuit.dopamine  circuit.plasticity  circuit.motivation
circuit.channel_block  circuit.population  circuit.transfer
circuit.parameters
circuit.constraints  circuit.effort  circuit.choices
circuit.spacing  circuit.levels
circuit.slow_clock  circuit.identifiability  circuit.tasks  circuit.pavlovian
circuit.marginal  circuit.learning
circuit.choice_search
circuit.interventions  circuit.cohort  circuit.fast_clock  circuit.choice_fit
circuit.validation  circuit.regimen  circuit.planner  circuit.lanes  circuit.objective  circuit.latent_regression
circuit.simulate
circuit.conditions  circuit.moment  circuit.set_points  circuit.descent  circuit.observations  circuit.unknowns
circuit.replay
circuit.survey  circuit.behaviour  circuit.session  circuit.clinical
circuit.verdict  circuit.prediction
circuit.question
circuit.search
circuit.fit  circuit.pareto  circuit.information
circuit.scoring
circuit.conclusion
circuit.recovery  circuit.uncertainty
circuit

circuit.calibration
circuit.calibration.lateral_habenula  circuit.calibration.transfer
circuit.calibration.courses  circuit.calibration.downstream  circuit.calibration.pharmacology
circuit.calibration.effort  circuit.calibration.visits

circuit.study.results  circuit.study.arms  circuit.study.labels  circuit.study.files  circuit.study.machine
circuit.study.bench_script  circuit.study.one_line
circuit.study.grid  circuit.study.progress  circuit.study.claims  circuit.study.probe
circuit.study.doctor
circuit.study.tables  circuit.study.plots  circuit.study.drawing  circuit.study.laboratory
circuit.study.measure_slices  circuit.study.measure_drugs  circuit.study.measure_courses  circuit.study.measure_moments
circuit.study.measure_sessions  circuit.study.measure_choices
circuit.study.trial  circuit.study.conditioning  circuit.study.fit_choices  circuit.study.scoreboard  circuit.study.store
circuit.study.explain  circuit.study.plot_choices  circuit.study.plot_front  circuit.study.example_choices
circuit.study.cli
circuit.study
"""

LAYER = {name: depth for depth, line in enumerate(LAYERS.splitlines()) for name in line.split()}


def dotted(path: Path) -> str:
    """The module's name below `habenula`: `circuit/study/__init__.py` is `circuit.study`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for folder in ("kernels", "circuit") for path in sorted((ROOT / folder).rglob("*.py"))}


def imported(name: str, path: Path) -> set[str]:
    """Every module of the project that the file at `path` imports, wherever in the file it does so."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {each.removeprefix("habenula.") for each in names if each.startswith("habenula.")}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:  # one dot is the package itself, each further dot its parent
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*parents, *source.split(".")] if source else parents)
            elif source == "habenula" or source.startswith("habenula."):
                source = source.removeprefix("habenula").removeprefix(".")
            else:
                continue
            # `from package import x` is the module x only inside that package; from outside, what the package offers.
            names = [f"{source}.{alias.name}".removeprefix(".") for alias in node.names]
            within = not source or f"{name}.".startswith(f"{source}.")
            found |= {each if within and each in FILES else source or each for each in names}
    return found


@pytest.mark.parametrize("name", FILES)
def test_imports_point_upwards(name):
    assert name in LAYER, f"{name} has no line in LAYERS: say there what it may import"
    unlisted = sorted(other for other in imported(name, FILES[name]) if other not in LAYER)
    assert not unlisted, f"{name} imports {unlisted}, which LAYERS does not list"
    wrong = sorted(other for other in imported(name, FILES[name]) if LAYER[other] >= LAYER[name])
    assert not wrong, f"{name} imports {wrong}, not above it in LAYERS"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("circuit")])
def test_the_circuit_sees_the_kernels_as_one_package(name):
    inside = sorted(other for other in imported(name, FILES[name]) if other.startswith("kernels."))
    assert not inside, f"{name} imports {inside}: import from the package `kernels`"
