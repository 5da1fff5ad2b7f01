"""Virtual subjects for the brain's anti-reward circuit: lateral habenula, RMTg, dopamine, under prefrontal control.

The main path is four lines:

    import habenula as hb

    cohort = hb.draw(hb.depressed(), subjects=1024, seed=1)                    # who
    course = hb.course(cohort, hb.Ketamine(mg_per_kg=0.5, day=7.0), days=28)   # weeks, hour by hour
    moment = hb.moment(cohort, seconds=2.0)                                    # seconds, in steps of 0.25 ms
    fit = hb.restore(cohort, hb.Recalibration.weekly(), over=("intensity", "times"))

and back, from observations to hidden parameters:

    recovery = hb.recover(cohort, arm, data, over=("mg_per_kg",))

Names are loaded on first use, so that `import habenula` does not import JAX. What is used less often stands in the
packages `hb.behaviour`, `hb.choice_models`, `hb.simulation`, `hb.optimisation` and `hb.inference`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors: the same names as in _HOMES, a test compares them
    from .circuit import behaviour as behaviour
    from .circuit import choice_models as choice_models
    from .circuit import inference as inference
    from .circuit import optimisation as optimisation
    from .circuit import simulation as simulation
    from .circuit.behaviour.choices import read_choices as read_choices
    from .circuit.choice_models.fit import fit_choices as fit_choices
    from .circuit.fitting.dose_spacing import Limits as Limits
    from .circuit.inference.observations import Binomial as Binomial
    from .circuit.inference.observations import Gaussian as Gaussian
    from .circuit.inference.observations import Observed as Observed
    from .circuit.inference.observations import Ordinal as Ordinal
    from .circuit.inference.observations import Poisson as Poisson
    from .circuit.inference.recover import recover as recover
    from .circuit.model.interventions import SSRI as SSRI
    from .circuit.model.interventions import Bupropion as Bupropion
    from .circuit.model.interventions import Ketamine as Ketamine
    from .circuit.model.interventions import Methylphenidate as Methylphenidate
    from .circuit.model.interventions import Placebo as Placebo
    from .circuit.model.interventions import Recalibration as Recalibration
    from .circuit.model.interventions import Stress as Stress
    from .circuit.model.parameters import Parameters as Parameters
    from .circuit.model.parameters import typical as typical
    from .circuit.optimisation.pareto import pareto as pareto
    from .circuit.optimisation.restore import restore as restore
    from .circuit.optimisation.settings import Multistart as Multistart
    from .circuit.optimisation.target import Target as Target
    from .circuit.simulation.cohort import Cohort as Cohort
    from .circuit.simulation.conditions import Condition as Condition
    from .circuit.simulation.conditions import as_healthy as as_healthy
    from .circuit.simulation.conditions import depressed as depressed
    from .circuit.simulation.conditions import draw as draw
    from .circuit.simulation.conditions import healthy as healthy
    from .circuit.simulation.conditions import healthy_output as healthy_output
    from .circuit.simulation.conditions import resilient as resilient
    from .circuit.simulation.course import course as course
    from .circuit.simulation.fixed_points import fixed_points as fixed_points
    from .circuit.simulation.moment import Event as Event
    from .circuit.simulation.moment import moment as moment
    from .circuit.simulation.planner import forecast as forecast
    from .circuit.simulation.session import session as session
    from .circuit.simulation.streamed_course import streamed_course as streamed_course
    from .kernels import Plan as Plan
    from .kernels import multiprocess as multiprocess

# Where each public name is defined, group by group: who, what is done, run, restore, recover, people, hardware.
_HOMES = {
    "circuit.simulation.conditions": "draw healthy depressed resilient as_healthy healthy_output Condition",
    "circuit.simulation.cohort": "Cohort",
    "circuit.model.parameters": "Parameters typical",
    "circuit.model.interventions": "Stress Placebo Ketamine SSRI Bupropion Methylphenidate Recalibration",
    "circuit.simulation.course": "course",
    "circuit.simulation.moment": "moment Event",
    "circuit.simulation.session": "session",
    "circuit.simulation.streamed_course": "streamed_course",
    "circuit.simulation.fixed_points": "fixed_points",
    "circuit.optimisation.restore": "restore",
    "circuit.optimisation.pareto": "pareto",
    "circuit.optimisation.settings": "Multistart",
    "circuit.optimisation.target": "Target",
    "circuit.fitting.dose_spacing": "Limits",
    "circuit.inference.recover": "recover",
    "circuit.inference.observations": "Observed Gaussian Poisson Binomial Ordinal",
    "circuit.choice_models.fit": "fit_choices",
    "circuit.behaviour.choices": "read_choices",
    "circuit.simulation.planner": "forecast",
    "kernels": "Plan multiprocess",
    "circuit": "behaviour choice_models inference optimisation simulation",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [*sorted(_MODULES), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name, imported on first use."""
    if name == "__version__":
        from importlib.metadata import version

        value = version("habenula")
    elif name in _MODULES:
        module = importlib.import_module(f".{_MODULES[name]}", __name__)
        value = getattr(module, name, None) or importlib.import_module(f"{module.__name__}.{name}")
    else:
        from difflib import get_close_matches

        nearest = get_close_matches(name, _MODULES, 3)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        raise AttributeError(f"module 'habenula' has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
