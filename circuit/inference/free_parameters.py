"""What is unknown: named numbers of subjects, their state and their arm, on which scale, and what is believed before.

A name is that of a leaf: of the arm ("mg_per_kg", "Ketamine.day"), of the parameters ("plasticity.depression_rate",
"block.half_concentration") or of the state on day 0 ("state.gain"); its end is enough where that is unambiguous.

Fitting happens among `free` numbers (see `bijections`): a logistic coordinate for what has two bounds, the logarithm for
what is positive. The prior is normal there, around the value that cohort and arm hold as given.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..fitting import regimen
from ..fitting.bijections import Interval, Positive
from ..model.interventions import PER_DOSE_FIELDS, Arm
from ..model.transfer_function import CONDITION_RANGES
from ..simulation.cohort import Cohort, get_leaf

SHARING_LEVELS = ("shared", "subject", "population")
STATE_BOUNDS = {
    "block": (0.0, 1.0),
    "adaptation": (0.0, 1.0),
    "kir_shift": CONDITION_RANGES["kir_shift"],
    "aversion": (-1.0, 1.0),
}
LOG_SCALE_PRIOR_SD, LOGIT_SCALE_PRIOR_SD = 0.5, 1.5  # default standard deviations of the prior among free numbers


@dataclasses.dataclass(frozen=True)
class FreeParameter:
    """A leaf to be recovered. Not a tree: static.

    Attributes:
        name: as asked for.
        part: "arm", "parameters" or "state".
        path: dotted, within that; for the arm the field alone.
        position: of the intervention in the arm, else -1.
        scale: bijection to free numbers.
        across: "shared" by all, each "subject" its own, or its own from one "population".
        doses: numbers in the leaf, as with one per dose; 0 where it has no such axis.
    """

    name: str
    part: str
    path: str
    position: int
    scale: Interval | Positive
    across: str
    doses: int

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each number: with that of the dose where there are several."""
        return (self.name,) if self.doses < 2 else tuple(f"{self.name}[{i}]" for i in range(self.doses))

    def of(self, cohort: Cohort, arm: Arm) -> Array:
        """What stands in its place."""
        if self.part == "arm":
            return getattr(arm[self.position], self.path)
        return get_leaf(getattr(cohort, self.part), self.path)


class Prior(eqx.Module):
    """The prior among free numbers, normal and independent; what is not finite in `spread` is flat.

    Attributes:
        centre: (number, subject).
        spread: standard deviation, (number,).
    """

    centre: Float[Array, "number subject"]
    spread: Float[Array, " number"]


def resolve_free_parameters(
    cohort: Cohort,
    arm: Arm,
    over: Sequence[str] | Mapping[str, str],
    bounds: Mapping[str, tuple[float, float]],
    days: float,
) -> tuple[FreeParameter, ...]:
    """The leaves called `over`; a plain sequence means shared ones.

    Raises:
        ValueError: a name that fits no leaf or several, or twice; a constant of the LHb neuron, for which the transfer
            function holds; a way to share that does not exist; bounds that are impossible, lacking, or of something else.
    """
    over = (over,) if isinstance(over, str) else over
    over = dict(over) if isinstance(over, Mapping) else dict.fromkeys(over, "shared")
    if not over:
        raise ValueError("over=() must name at least one leaf.")
    if strange := set(bounds) - set(over):
        raise ValueError(f"bounds for {sorted(strange)}, which are not recovered: over={list(over)}.")
    if wrong := {name: across for name, across in over.items() if across not in SHARING_LEVELS}:
        raise ValueError(f"over={wrong} must say one of {', '.join(SHARING_LEVELS)}.")
    places = _leaf_locations(cohort, arm)
    found = tuple(
        _make_free_parameter(name, across, bounds.get(name), cohort, arm, days, places) for name, across in over.items()
    )
    if len({(each.part, each.path, each.position) for each in found}) < len(found):
        raise ValueError(f"over={list(over)} names a leaf twice.")
    return found


def with_values(
    cohort: Cohort, arm: Arm, values: Mapping[str, ArrayLike | Sequence[float] | Sequence[Sequence[float]]]
) -> tuple[Cohort, Arm]:
    """Cohort and arm with other numbers in the leaves called so: one for all, or one per subject as the last axis.

    Of a leaf with one value per dose, the first axis is that of doses; one number alone is that of every dose.

    Raises:
        ValueError: names that fit no leaf or several.
    """
    places = _leaf_locations(cohort, arm)
    for name, value in values.items():
        part, position, path = _locate_leaf(name, places)
        unknown = FreeParameter(name, part, path, position, Interval(), "shared", 0)
        cohort, arm = replace_parameter(cohort, arm, unknown, jnp.asarray(value, jnp.result_type(float)))
    return cohort, arm


def replace_parameter(cohort: Cohort, arm: Arm, unknown: FreeParameter, value: Array) -> tuple[Cohort, Arm]:
    """Cohort and arm with `value` as a leaf."""
    if unknown.part == "arm":
        value = jnp.atleast_1d(value) if unknown.path in PER_DOSE_FIELDS else value  # one number is that of every dose
        return cohort, eqx.tree_at(lambda arm: getattr(arm[unknown.position], unknown.path), arm, value)
    if unknown.part == "state":
        value = jnp.broadcast_to(value, (len(cohort),))
    return eqx.tree_at(lambda c: get_leaf(getattr(c, unknown.part), unknown.path), cohort, value), arm


def current_values(unknown: FreeParameter, cohort: Cohort, arm: Arm) -> Float[np.ndarray, "dose subject"]:
    """The values that cohort and arm hold, of every dose (1 where there are none) and subject."""
    value = np.asarray(unknown.of(cohort, arm), float)
    if unknown.doses:
        value = value if value.ndim == 2 else value[:, None]
    return np.broadcast_to(value, (max(unknown.doses, 1), len(cohort)))


def make_prior(
    unknowns: tuple[FreeParameter, ...], cohort: Cohort, arm: Arm, prior: Mapping[str, tuple[float, float]]
) -> Prior:
    """The prior: around what is given, or by name as (median in the leaf's unit, sd among free numbers).

    Raises:
        ValueError: a prior of something that is not recovered, a spread that is not positive, a median out of bounds.
    """
    if strange := set(prior) - {each.name for each in unknowns}:
        raise ValueError(f"prior for {sorted(strange)}, which are not recovered.")
    centre, spread = [], []
    for each in unknowns:
        value, sd = (
            current_values(each, cohort, arm),
            LOG_SCALE_PRIOR_SD if isinstance(each.scale, Positive) else LOGIT_SCALE_PRIOR_SD,
        )
        if each.name in prior:
            median, sd = prior[each.name]
            value = np.full_like(value, median)
        if not sd > 0:
            raise ValueError(f"prior[{each.name!r}] has spread {sd}, which must be positive.")
        if (wrong := (value < each.scale.low) | (value > each.scale.high)).any():
            raise ValueError(
                f"{each.name} = {value[wrong][0]:g} must lie between {each.scale.low:g} and {each.scale.high:g}."
            )
        if each.across == "shared" and not np.allclose(value, value[:, :1]):
            raise ValueError(
                f"{each.name} differs between subjects: recover it per subject, or give one value for all."
            )
        number = jnp.asarray(value, jnp.result_type(float))
        centre.append(np.asarray(each.scale.unconstrain(number, 1e-3)))
        spread += [sd] * len(value)
    return Prior(jnp.asarray(np.concatenate(centre)), jnp.asarray(np.array(spread), jnp.result_type(float)))


def _leaf_locations(cohort: Cohort, arm: Arm) -> dict[str, tuple[str, int, str]]:
    """Part, position and path of every leaf by full name."""
    found = {full: ("arm", *place) for full, place in regimen.field_positions(arm).items()}
    for part, tree in (("parameters", cohort.parameters), ("state", cohort.state)):
        for path in _leaf_paths(tree):
            found[path if part == "parameters" else f"state.{path}"] = (part, -1, path)
    return found


def _leaf_paths(tree, before: str = "") -> list[str]:
    """Dotted paths of every leaf of a tree of modules."""
    if not isinstance(tree, eqx.Module):
        return [before[:-1]]
    return [path for name, leaf in vars(tree).items() for path in _leaf_paths(leaf, f"{before}{name}.")]


def _locate_leaf(name: str, places: dict[str, tuple[str, int, str]]) -> tuple[str, int, str]:
    fits = [full for full in places if full == name] or [full for full in places if full.endswith(f".{name}")]
    if len(fits) != 1:
        listed = ", ".join(fits or [full for full, place in places.items() if place[0] != "parameters"])
        raise ValueError(
            f"{name!r} is ambiguous; choose from {listed}."
            if fits
            else f"{name!r} is no leaf; choose from {listed}, or a path in the parameters."
        )
    if fits[0].startswith("neuron."):
        raise ValueError(
            f"{fits[0]} cannot be recovered: the transfer function holds for fixed constants of the neuron."
        )
    return places[fits[0]]


def _make_free_parameter(name: str, across: str, asked, cohort: Cohort, arm: Arm, days: float, places) -> FreeParameter:
    part, position, path = _locate_leaf(name, places)
    if part == "arm":
        scale = regimen.resolve_interval(arm, name, position, path, asked, days)
        doses = getattr(arm[position], path).shape[0] if path in PER_DOSE_FIELDS else 0
        return FreeParameter(name, part, path, position, scale, across, doses)
    if asked is None and part == "state":
        asked = STATE_BOUNDS.get(path)
    unknown = FreeParameter(
        name, part, path, -1, Positive() if asked is None else Interval(*map(float, asked)), across, 0
    )
    if asked is None and not (np.asarray(unknown.of(cohort, arm)) > 0).all():
        raise ValueError(f"{name} is not positive, so it needs bounds: bounds={{{name!r}: (low, high)}}.")
    return unknown
