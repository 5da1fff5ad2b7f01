"""What is checked at the door, before anything is compiled: every error quotes the value and names the fix."""

import jax
import numpy as np
from jax.core import Tracer

from ..model.interventions import PER_DOSE_FIELDS, Intervention
from .cohort import Cohort

MAX_DAYS = 3660.0  # days


def check_course(cohort: Cohort, arm: tuple, days: float, start: float, save_every: int) -> None:
    """Refuse a course that cannot mean anything.

    Raises:
        TypeError: the arm holds what is no intervention.
        ValueError: no subjects, an impossible length, a number that is not finite or out of its bounds, a dose outside the
            course, or a leaf whose shape fits neither one value nor one per subject.
    """
    if not len(cohort):
        raise ValueError("the cohort has 0 subjects; draw at least 1.")
    if not 0 < days <= MAX_DAYS:
        raise ValueError(f"{days=} must be above 0 and at most {MAX_DAYS:g}.")
    if start < 0:
        raise ValueError(f"{start=} must be at least 0: a course begins at day 0 or, resumed, later.")
    hours = round(days * 24)
    if save_every < 1 or hours % save_every:
        raise ValueError(f"{days=} is {hours} h, which does not divide into records every {save_every=} h.")
    for intervention in arm:
        if not isinstance(intervention, Intervention):
            raise TypeError(f"{intervention!r} is not an intervention; see habenula.circuit.interventions.")
        check_intervention(intervention, start + days, len(cohort))
    _check_finite("parameter", cohort.parameters)
    _check_finite("state", cohort.state)


def check_intervention(intervention: Intervention, end: float, subjects: int) -> None:
    """Refuse numbers that are not finite, out of bounds, outside the course, or of the wrong shape.

    Raises:
        ValueError: quoting the intervention, its field and the value.
    """
    kind = type(intervention).__name__
    _check_shapes(intervention, subjects)
    for name, (low, high) in type(intervention).bounds.items():
        value = getattr(intervention, name)
        if isinstance(value, Tracer):
            continue
        value = np.asarray(value)
        if not np.isfinite(value).all():
            raise ValueError(f"{kind}.{name} = {_quote_values(value, ~np.isfinite(value))} must be a finite number.")
        if (wrong := (value < low) | (value > high)).any():
            raise ValueError(f"{kind}.{name} = {_quote_values(value, wrong)} must lie between {low:g} and {high:g}.")
        if name in ("day", "times", "start") and (wrong := value >= end).any():
            raise ValueError(
                f"{kind}.{name} = {_quote_values(value, wrong)} lies outside the course, which ends on day {end:g}; "
                "move it or lengthen the course."
            )
    begin, stop = (getattr(intervention, name, None) for name in ("start", "stop"))
    known = stop is not None and not any(isinstance(each, Tracer) for each in (begin, stop))
    if known and (np.asarray(stop) < np.asarray(begin)).any():
        raise ValueError(f"{kind} stops on day {np.asarray(stop)} before it starts on day {np.asarray(begin)}.")


def _check_shapes(intervention: Intervention, subjects: int) -> None:
    kind, doses = type(intervention).__name__, {}
    for name in type(intervention).bounds:
        value = getattr(intervention, name)
        per_dose = name in PER_DOSE_FIELDS
        extra = value.shape[1:] if per_dose else value.shape
        if extra not in ((), (subjects,)):
            raise ValueError(
                f"{kind}.{name} has shape {value.shape}; expected {'one value per dose' if per_dose else 'one value'}, "
                f"or a last axis of {subjects} for one per subject."
            )
        if per_dose:
            doses[name] = value.shape[0]
    if len({count for count in doses.values() if count != 1}) > 1 or 0 in doses.values():
        raise ValueError(
            f"{kind} has unequal numbers of doses: {doses}; give one value, or as many as there are doses."
        )


def _check_finite(what: str, tree) -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if isinstance(leaf, Tracer):
            continue
        if (wrong := ~np.isfinite(np.asarray(leaf))).any():
            subjects = (
                f" of {np.count_nonzero(wrong)} subjects, first at index {np.argmax(wrong)}," if leaf.ndim else ""
            )
            raise ValueError(f"{what} {jax.tree_util.keystr(path)[1:]}{subjects} is not finite; draw or set it anew.")


def _quote_values(value: np.ndarray, wrong: np.ndarray) -> str:
    bad = np.atleast_1d(value)[np.atleast_1d(wrong)]
    return f"{bad[0]:g}" + (f" (and {bad.size - 1} more)" if bad.size > 1 else "")
