"""Clinical scores: an assumed link from mood, a reader of scores in long format, and the time course of a response.

The link is an ASSUMPTION, not a finding: mood is a relative quantity (`motivation`), a score the sum of items that a rater
fills in, of which mood is one. Here

    score = healthy + per_mood (1 - mood), rated with a logistic error, a whole number from 0 to `maximum`

Because it is a straight line, the *share* of the final change that is there by a week is the same for score and mood, up
to rounding and the ends of the scale: so a time course can be compared without trusting the slope.

A file of scores has, in any order, the columns

    subject      who: any text; every line of a subject names the same arm
    arm          what was given: any text
    week         or day, or visit: when, a number above 0; of a visit, the text that `read_scores` is told the week of
    score        a number; empty or NA: missing
    baseline     optional: the score before treatment, the same on every line of a subject

Other columns are ignored; other names are given to `read_scores`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..data import constants, long_format
from ..data.long_format import MISSING_MARKERS
from .observations import Observed, Ordinal

TIME_COLUMNS = ("week", "day", "visit")
SCORE_COLUMNS = ("subject", "arm", "score", "baseline", *TIME_COLUMNS)
BOOTSTRAP_RESAMPLES = 2000  # of subjects, for the interval of a time course


class RatingScale(eqx.Module):
    """A clinical scale, and how mood is assumed to show in it.

    Attributes:
        maximum: points; the worst score.
        healthy: points. Score at mood 1.
        per_mood: points by which the score rises as mood falls by 1.
        rater: points. Spread of the rater's logistic error.
    """

    maximum: Float[Array, ""]
    healthy: Float[Array, ""]
    per_mood: Float[Array, ""]
    rater: Float[Array, ""]

    @property
    def noise(self) -> Ordinal:
        """Of the points below the worst score, which rise with mood, as an observation of mood."""
        points = float(self.maximum) - np.arange(int(self.maximum)) - 0.5  # between a score and the next better one
        return Ordinal(1 - (points - float(self.healthy)) / float(self.per_mood), self.rater / self.per_mood)


def hamd17() -> RatingScale:
    """Hamilton's scale of 17 items, from the package's table (section `hamd17`)."""
    return RatingScale(**constants.section_arrays("hamd17"))


def expected_score(mood: ArrayLike, scale: RatingScale) -> Array:
    """The score (points) that mood is assumed to show as, before the rater's error; differentiable between its ends."""
    return jnp.clip(scale.healthy + scale.per_mood * (1 - jnp.asarray(mood)), 0, scale.maximum)


def simulate_ratings(mood: np.ndarray, scale: RatingScale, seed: int = 0) -> np.ndarray:
    """Scores that a rater gives to moods, whole numbers; NaN where mood is."""
    mood = np.asarray(mood, float)
    points = scale.noise.drawn(np.nan_to_num(mood), np.random.default_rng(seed))
    return np.where(np.isnan(mood), np.nan, float(scale.maximum) - points)


@dataclasses.dataclass(frozen=True)
class ClinicalScores:
    """Scores of people at the visits of a trial.

    Attributes:
        subject: name of each.
        arm: what each was given.
        week: of each visit, rising.
        score: points, NaN where missing.
        baseline: points before treatment, NaN where unknown.
    """

    subject: tuple[str, ...]
    arm: tuple[str, ...]
    week: tuple[float, ...]
    score: Float[np.ndarray, "subject visit"]
    baseline: Float[np.ndarray, " subject"]

    def __len__(self) -> int:
        return len(self.subject)

    def of(self, arm: str) -> "ClinicalScores":
        """Those of one arm.

        Raises:
            ValueError: nobody was in it.
        """
        here = [i for i, name in enumerate(self.arm) if name == arm]
        if not here:
            raise ValueError(f"nobody was in arm {arm!r}; there are {', '.join(dict.fromkeys(self.arm))}.")
        names = tuple(self.subject[i] for i in here)
        return ClinicalScores(names, (arm,) * len(here), self.week, self.score[here], self.baseline[here])

    def observed(self, scale: RatingScale) -> Observed:
        """As an observation of mood, for `recover`: points below the worst score, under the assumed link.

        Raises:
            ValueError: a score that is no whole number of points of the scale.
        """
        wrong = ~np.isnan(self.score) & ((self.score != np.round(self.score)) | (self.score > float(scale.maximum)))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"subject {self.subject[row]}, week {self.week[column]:g}: score {self.score[row, column]:g} must be a "
                f"whole number from 0 to {float(scale.maximum):g}."
            )
        return Observed("mood", tuple(7 * w for w in self.week), scale.noise, float(scale.maximum) - self.score)


def read_scores(
    path: str | Path,
    *,
    visits: Sequence[float | int] | Mapping[str, float | int],
    columns: Mapping[str, str] | None = None,
) -> ClinicalScores:
    """Scores from a file in long format; subjects in the order in which they come.

    Args:
        path: of the file.
        visits: weeks at which people were to be seen; every line belongs to the nearest. Or a mapping from what stands
            in the column `visit` to its week, as people come late.
        columns: names of columns in the file by what they hold, such as {"subject": "PATIENT", "day": "RELDAYS"}.

    Raises:
        OSError: there is no such file.
        ValueError: a column that is missing or ambiguous; a cell that is not what it must be; two scores of one visit, two
            arms or baselines of one subject. The message names file, row (the header is row 1) and column.
    """
    path, named = Path(path), _column_names(columns or {})
    week = _visit_weeks(visits)
    where: dict[str, int] = {}
    people: dict[str, dict[str, tuple[int, str]]] = {}
    seen: dict[tuple[str, int], tuple[int, float]] = {}
    header: list[str] = []
    for row, cells in long_format.read_rows(path):
        if not where:
            header, where = cells, _locate_columns(cells, named, path.name, isinstance(visits, Mapping))
            continue
        place = f"{path.name}, row {row}"
        if len(cells) != len(header):
            raise ValueError(f"{place}: {len(cells)} cells, but {len(header)} columns.")
        of = {name: cells[i] for name, i in where.items()}
        at = {name: f"{place}, column {named[name]}" for name in SCORE_COLUMNS}
        _record_subject(people.setdefault(of["subject"], {}), of, row, at)
        when = next(name for name in TIME_COLUMNS if name in of)
        key = of["subject"], _find_visit(of[when], when, visits, week, at[when])
        if key in seen:
            raise ValueError(
                f"{at[when]}: {of[when]} of subject {key[0]} belongs to the visit of week {week[key[1]]:g}, as does row "
                f"{seen[key][0]}; keep one, or name more visits."
            )
        seen[key] = row, _parse_score(of["score"], at["score"])
    if not seen:
        raise ValueError(f"{path.name} holds no scores: give a line with column names and one for each visit.")
    return _assemble_scores(people, seen, week, f"column {named['baseline']}", path.name)


def _visit_weeks(visits: Sequence[float | int] | Mapping[str, float | int]) -> tuple[float, ...]:
    """Of the visits, rising."""
    week = tuple(sorted(float(each) for each in (visits.values() if isinstance(visits, Mapping) else visits)))
    if not week or week[0] <= 0 or len(set(week)) < len(week):
        raise ValueError(f"{visits=} must be different weeks above 0.")
    return week


def _column_names(columns: Mapping[str, str]) -> dict[str, str]:
    """What each column is called in the file."""
    if strange := set(columns) - set(SCORE_COLUMNS):
        raise ValueError(f"columns of {sorted(strange)}: choose from {', '.join(SCORE_COLUMNS)}.")
    return {name: columns.get(name, name) for name in SCORE_COLUMNS}


def _record_subject(known: dict[str, tuple[int, str]], of: Mapping[str, str], row: int, at: Mapping[str, str]) -> None:
    """Keep what is said of a subject besides its scores, with its row; every line must say the same."""
    for name in ("subject", "arm"):
        if of[name] in MISSING_MARKERS:
            raise ValueError(f"{at[name]}: empty; every line needs one.")
    for name in ("arm", "baseline"):
        said = of.get(name, "")
        first, before = known.setdefault(name, (row, said))
        if said != before:
            raise ValueError(f"{at[name]}: {said!r} of subject {of['subject']}, but {before!r} in row {first}.")


def _parse_score(cell: str, where: str) -> float:
    """Points; NaN where missing."""
    score = math.nan if cell in MISSING_MARKERS else long_format.parse_number(cell, where)
    if score < 0:
        raise ValueError(f"{where}: {cell!r} must not be negative.")
    return score


def _assemble_scores(
    people: Mapping[str, Mapping[str, tuple[int, str]]],
    seen: Mapping[tuple[str, int], tuple[int, float]],
    week: tuple[float, ...],
    column: str,
    file: str,
) -> ClinicalScores:
    """Arrays over subjects and visits of what was read; `find_column` of `file` holds the baseline."""
    scores = np.full((len(people), len(week)), math.nan)
    names = {name: i for i, name in enumerate(people)}
    for (name, visit), (_, score) in seen.items():
        scores[names[name], visit] = score
    baseline = [
        math.nan if cell in MISSING_MARKERS else long_format.parse_number(cell, f"{file}, row {row}, {column}")
        for row, cell in (known["baseline"] for known in people.values())
    ]
    return ClinicalScores(
        tuple(people), tuple(known["arm"][1] for known in people.values()), week, scores, np.array(baseline)
    )


def _find_visit(cell: str, when: str, visits, week: tuple[float, ...], where: str) -> int:
    """Which visit a line belongs to."""
    if isinstance(visits, Mapping):
        if cell not in visits:
            raise ValueError(f"{where}: no week is given for visit {cell!r}; there are {', '.join(visits)}.")
        return week.index(float(visits[cell]))
    time = long_format.parse_number(cell, where) / (1 if when == "week" else 7)
    if time <= 0:
        raise ValueError(f"{where}: {cell!r} must be above 0.")
    return int(np.argmin([abs(each - time) for each in week]))


def _locate_columns(header: list[str], named: Mapping[str, str], file: str, by_visit: bool) -> dict[str, int]:
    """Where each column is that is needed, or there."""
    needed = ("subject", "arm", "score", *(("visit",) if by_visit else ()))
    found = {name: long_format.find_column(name, (named[name],), header, file) for name in needed}
    for name in ("baseline",) if by_visit else ("week", "day", "baseline"):
        found[name] = long_format.find_column(name, (named[name],), header, file, needed=False)
    if not by_visit and (found["week"] < 0) == (found["day"] < 0):
        both = "both, keep one" if found["week"] >= 0 else f"neither; there are {', '.join(header)}"
        raise ValueError(f"{file}, row 1: columns {named['week']} or {named['day']} tell when, and there are {both}.")
    return {name: i for name, i in found.items() if i >= 0}


@dataclasses.dataclass(frozen=True)
class TimeCourse:
    """By when a response is there.

    Attributes:
        week: of each visit.
        share: of the mean change from baseline to the last visit.
        low, high: its 95 % interval, over subjects.
        change: points; mean change by the last visit, below 0 where people are better.
        subjects: with a baseline and a score at the last visit, who alone count.
    """

    week: tuple[float, ...]
    share: Float[np.ndarray, " visit"]
    low: Float[np.ndarray, " visit"]
    high: Float[np.ndarray, " visit"]
    change: float
    subjects: int


def time_course(scores: ClinicalScores, seed: int = 0) -> TimeCourse:
    """Share of the final mean change that is there by each visit, among those who stayed, with bootstrap intervals.

    A visit that someone who stayed has missed counts for nothing at both ends of the ratio.

    Raises:
        ValueError: fewer than two people have a baseline and a last score.
    """
    change = scores.score - scores.baseline[:, None]
    stayed = ~np.isnan(change[:, -1])
    if stayed.sum() < 2:
        raise ValueError(
            f"{stayed.sum()} people have a baseline and a score in week {scores.week[-1]:g}; 2 are needed."
        )
    change = change[stayed]
    known = ~np.isnan(change)
    now, last = np.where(known, change, 0), np.where(known, change[:, -1:], 0)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(change), np.full(len(change), 1 / len(change)), size=BOOTSTRAP_RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (drawn @ now) / (drawn @ last)
    low, high = np.nanpercentile(shares, [2.5, 97.5], axis=0)
    share = now.sum(axis=0) / last.sum(axis=0)
    return TimeCourse(scores.week, share, low, high, float(change[:, -1].mean()), int(stayed.sum()))
