"""What is kept of a fit that stopped being finite: who, when, what, and one line of Python that lives it again."""

import dataclasses
import warnings
from collections.abc import Sequence

import jax
import numpy as np

from ...kernels import Plan
from ..model.interventions import Arm, per_subject_mask
from ..simulation.cohort import Cohort
from ..simulation.course import course
from .regimen import SAVE_EVERY

MAX_REPLAYS = (
    8  # failures that are lived again to learn the hour and the quantity; the line of the others tells as much
)


@dataclasses.dataclass(frozen=True)
class FitFailure:
    """A life on the way of a fit that was not finite; the others are unaffected.

    Attributes:
        subject: its number in the cohort's `subject`.
        start: of the fit.
        step: steps of the search made before it.
        direction: "forward", or "backward" where the life was finite but not its derivative.
        term: forward, the first quantity that was not finite, and its day; backward, also what it is derived by.
        replay: one line of Python, in which `cohort` (and `arm`) are those given, that lives that course again.
    """

    subject: int
    start: int
    step: int
    direction: str
    term: str
    replay: str

    def __str__(self) -> str:
        return f"subject {self.subject} from start {self.start} at step {self.step}, {self.direction}: {self.term}"


def nonfinite_value(
    cohort: Cohort, index: int, arm: Arm, days: float, start: int, step: int, plan: Plan, look: bool
) -> FitFailure:
    """Of the subject at `index` of `cohort`, under its own `arm`; with `look`, the quantity is found by living again."""
    line = f"course({_format_subject(cohort, index)}, {format_arm(arm)}, days={float(days)!r}, {_REPLAY_OPTIONS})"
    term = "VTA output, not looked into: replay it"
    if look:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it is reported here
            lived = course(cohort[index], arm, days, save_every=SAVE_EVERY, record=("vta_output",), plan=plan)
        wrong = np.flatnonzero(~np.isfinite(np.asarray(lived["vta_output"])[0]))
        seen = [f"VTA output on day {lived.day[wrong[0]]:g}"] if len(wrong) else ["VTA output, though not alone"]
        term = ([f"{each.quantity} on day {each.day:.3f}" for each in lived.failures] or seen)[0]
    return FitFailure(int(cohort.subject[index]), start, step, "forward", term, line)


def nonfinite_gradient(
    cohort: Cohort, index: int, arm: Arm, days: float, start: int, step: int, leaves: Sequence[str]
) -> FitFailure:
    """Of the derivative by `leaves` of the subject at `index` of `cohort`, under its own `arm`."""
    lived = (
        f'course({_format_subject(cohort, index)}, arm, days={float(days)!r}, {_REPLAY_OPTIONS})["vta_output"].sum()'
    )
    line = f"jax.grad(lambda arm: {lived})({format_arm(arm)})"
    term = f"the derivative of VTA output by {' and '.join(leaves)}"
    return FitFailure(int(cohort.subject[index]), start, step, "backward", term, line)


_REPLAY_OPTIONS = f'save_every={SAVE_EVERY}, record=("vta_output",)'


def select_subject(arm: Arm, index: int) -> Arm:
    """The arm of the subject at `index`, as that of a cohort of one."""
    return jax.tree.map(lambda leaf, own: leaf[..., index : index + 1] if own else leaf, arm, per_subject_mask(arm))


def format_arm(arm: Arm) -> str:
    """An arm as it is typed; its numbers read back to the last digit."""
    each = [
        f"{type(given).__name__}({', '.join(f'{name}={_format_value(value)}' for name, value in vars(given).items())})"
        for given in arm
    ]
    return f"({', '.join(each)},)" if each else "()"


def _format_subject(cohort: Cohort, index: int) -> str:
    return f"cohort[cohort.subject == {int(cohort.subject[index])}]"


def _format_value(value) -> str:
    """The shortest digits that read back to the same number in its precision."""
    value = np.asarray(value)
    if value.ndim:
        return f"[{', '.join(map(_format_value, value))}]"
    return repr(float(str(value)))
