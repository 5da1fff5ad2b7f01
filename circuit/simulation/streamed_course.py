"""The course of more subjects than fit in memory, chunk by chunk.

A chunk is drawn, simulated, reduced to statistics (or written down, see `study.runtime.store`), and makes room for the
next. All chunks are of one size and run through one compiled program; a subject's course is the same in any chunk.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Plan, Quantiles, Summary
from ..data.describe import missing_name
from ..model.interventions import Arm, Intervention, as_arm, per_subject_mask
from ..model.parameters import Parameters
from . import validation
from .conditions import Condition, draw
from .course import DEFAULT_PLAN, DEFAULT_RECORD, CourseFailure, course
from .planner import chunk_length


class CourseChunk(NamedTuple):
    """The course of some of the subjects.

    Attributes:
        subjects: their places among all.
        day: when each record was made.
        record: by name, (subject, saved).
        failures: see `course.Course`.
    """

    subjects: range
    day: np.ndarray
    record: dict[str, np.ndarray]
    failures: tuple[CourseFailure, ...]

    @property
    def finite(self) -> np.ndarray:
        """(subject,), whether all records of a subject are finite."""
        return np.all([np.isfinite(each).all(axis=1) for each in self.record.values()], axis=0)


@dataclasses.dataclass(frozen=True)
class StreamedCourse:
    """Statistics over subjects at each record, of those whose numbers stayed finite.

    Attributes:
        day: when each record was made, at the end of an hour.
        summary: by name, count, mean and standard deviation.
        quantiles: by name, if asked for.
        failures: subjects whose numbers stopped being finite.
    """

    day: np.ndarray
    summary: dict[str, Summary]
    quantiles: dict[str, Quantiles]
    failures: tuple[CourseFailure, ...]

    def __getitem__(self, name: str) -> Summary:
        if name not in self.summary:
            raise missing_name(name, self.summary)
        return self.summary[name]


def streamed_course(
    condition: Condition,
    arm: Arm | Intervention | Sequence = (),
    days: float = 84.0,
    *,
    subjects: int,
    seed: int = 0,
    save_every: int = 4,
    record: Sequence[str] = DEFAULT_RECORD,
    quantiles: bool = False,
    chunk: int | None = None,
    first: int = 0,
    around: Parameters | None = None,
    plan: Plan = DEFAULT_PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> StreamedCourse:
    """Simulate `subjects` of `condition` for `days` under `arm`, and keep statistics over them.

    The same as `course(draw(condition, subjects, seed), arm, days)` and statistics of its records, in memory that does not
    grow with the number of subjects.

    Args:
        condition: of whom, see `draw`.
        arm: an intervention, or several, as in `course`; one value per subject where a leaf has them.
        days: how long.
        subjects: how many.
        seed: names traits and noise.
        save_every: h between records.
        record: names from `course.COURSE_QUANTITIES`.
        quantiles: whether to keep histograms, from which `streamed.quantiles[name].at(0.5)` is a median to 0.4 %.
        chunk: most subjects in a piece; by default as many as the planner finds room for.
        first: number of the first subject.
        around: the subject around whom the others are drawn.
        plan: how to use the hardware.
        progress: called with the numbers of pieces done and in all.

    Raises:
        TypeError, ValueError: as `draw` and `course`; nothing to record.
    """
    arm = as_arm(arm)
    if not record:
        raise ValueError(f"{record=} leaves nothing to survey; name some of COURSE_QUANTITIES.")
    most = chunk_length(plan, days, len(record), save_every) if chunk is None else chunk
    parts = divide_subjects(subjects, most, plan)
    found: StreamedCourse | None = None
    for number, piece in enumerate(
        iterate_chunks(condition, arm, days, parts, seed, save_every, tuple(record), first, around, plan)
    ):
        seen = _summarise_chunk(piece, quantiles)
        found = seen if found is None else _merge_summaries(found, seen)
        if progress is not None:
            progress(number + 1, len(parts))
    assert found is not None
    return found


def divide_subjects(subjects: int, most: int, plan: Plan) -> tuple[range, ...]:
    """Places of subjects in pieces of one size, of at most `most` and whole tiles on every device; the last may be short.

    Raises:
        ValueError: no subjects, or pieces that hold none.
    """
    if subjects < 1 or most < 1:
        raise ValueError(f"{subjects=} and pieces of at most {most} must both be at least 1.")
    if subjects <= most:
        return (range(subjects),)
    unit = plan.tile * plan.devices
    pieces = -(-subjects // max(most // unit * unit, unit))
    each = unit * -(-subjects // (pieces * unit))
    return split_range(subjects, each)


def split_range(subjects: int, each: int) -> tuple[range, ...]:
    """Places of subjects in pieces of so many `each`; the last may be short."""
    return tuple(range(begin, min(begin + each, subjects)) for begin in range(0, subjects, each))


def iterate_chunks(
    condition: Condition,
    arm: Arm,
    days: float,
    parts: Sequence[range],
    seed: int,
    save_every: int,
    record: tuple[str, ...],
    first: int = 0,
    around: Parameters | None = None,
    plan: Plan = DEFAULT_PLAN,
    wanted: Sequence[range] | None = None,
) -> Iterator[CourseChunk]:
    """Draw and simulate each chunk. `parts` divide all subjects (`divide_subjects`); `wanted` are those still to do."""
    size, everyone = len(parts[0]), parts[-1].stop
    for intervention in arm:
        validation.check_intervention(intervention, days, everyone)
    for part in parts if wanted is None else wanted:
        cohort = draw(condition, size, seed, first=first + part.start, around=around, plan=plan)
        lived = course(
            cohort, slice_arm(arm, part, size, everyone), days, save_every=save_every, record=record, plan=plan
        )
        kept = {name: np.asarray(lived[name])[: len(part)] for name in record}
        failures = tuple(each for each in lived.failures if each.subject < first + part.stop)
        yield CourseChunk(part, np.asarray(lived.day), kept, failures)


def slice_arm(arm: Arm, part: range, size: int, subjects: int) -> Arm:
    """The arm of `size` subjects from `part.start` on; past the last of all `subjects`, that one's is repeated."""
    which = np.minimum(np.arange(part.start, part.start + size), subjects - 1)
    return jax.tree.map(
        lambda leaf, own: jnp.asarray(np.asarray(leaf)[..., which]) if own else leaf, arm, per_subject_mask(arm)
    )


def _summarise_chunk(piece: CourseChunk, quantiles: bool) -> StreamedCourse:
    finite = piece.finite
    kept = {name: values if finite.all() else values[finite] for name, values in piece.record.items()}
    binned = {name: Quantiles.of(values) for name, values in kept.items()} if quantiles and finite.any() else {}
    return StreamedCourse(
        piece.day, {name: Summary.of(values) for name, values in kept.items()}, binned, piece.failures
    )


def _merge_summaries(a: StreamedCourse, b: StreamedCourse) -> StreamedCourse:
    summary = {name: each.merge(b.summary[name]) for name, each in a.summary.items()}
    if not (a.quantiles and b.quantiles):  # a piece without a finite subject has none
        return StreamedCourse(a.day, summary, a.quantiles or b.quantiles, a.failures + b.failures)
    quantiles = {name: each.merge(b.quantiles[name]) for name, each in a.quantiles.items()}
    return StreamedCourse(a.day, summary, quantiles, a.failures + b.failures)
