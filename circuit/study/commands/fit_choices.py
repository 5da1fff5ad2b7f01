"""What `habenula fit` does: read choices, fit everyone at once, and say it in a table, a figure and JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.text import Text

from ...behaviour import choices as reader
from ...behaviour.choices import Choices
from ...choice_models.fit import ChoiceFit, fit_choices
from ...choice_models.latent_regression import has_enough_scores, regress_latent
from ..reporting.text_table import TableCell, TableColumn, fold_text, render_table

# Made by `python -m habenula.circuit.study.commands.example_choices`.
EXAMPLE_FILE = Path(__file__).parents[2] / "data" / "example_choices.csv"
MAX_CELLS = 64  # combinations of effort and reward beyond which they are no cells of a table
PREFERENCE_UNITS = {"bias": "logit", "reward": "logit/level", "effort": "logit/level"}
SHARED_UNITS = {f"early_{name}": unit for name, unit in PREFERENCE_UNITS.items()} | {
    "naive": "share",
    "fade": "trials",
    "lapse": "share",
}


class CellAcceptance(NamedTuple):
    """How often an offer was accepted, and how often it should have been."""

    effort: float
    reward: float
    offers: int
    observed: float
    predicted: float


class ScoreRelation(NamedTuple):
    """Change of the population's mean of a preference per standard deviation of a score, with its 95 % interval."""

    score: str
    preference: str
    slope: float
    low: float
    high: float
    subjects: int


class ChoiceReport(NamedTuple):
    """What the command shows."""

    name: str
    choices: Choices
    fit: ChoiceFit
    cells: tuple[CellAcceptance, ...]
    relations: tuple[ScoreRelation, ...]


def find_choices_file(path: Path | None) -> Path:
    """The named file, or without a name the example that ships with the package."""
    return EXAMPLE_FILE if path is None else path


def run_fit(
    path: Path | None, scores: Path | None = None, report: Callable[[str, int, int], None] | None = None
) -> ChoiceReport:
    """Read, fit and compare.

    Args:
        path: of the choices; None for the example that comes with the package.
        scores: of a file with scores of subjects.
        report: called as `report(stage, done, total)`.

    Raises:
        OSError, ValueError: see `choices.read_choices`, `choices.read_scores` and `fit.fit_choices`.
    """
    say = report or (lambda stage, done, total: None)
    found = find_choices_file(path)
    say(f"reading {found.name}", 0, 1)
    people = reader.read_choices(found)
    table = reader.read_scores(scores, people.subject) if scores else {}
    say(f"reading {found.name}", 1, 1)
    stage = f"fitting {len(people)} subjects"
    say(stage, 0, 1)
    fit = fit_choices(people, progress=lambda done, total: say(stage, done, total))
    name = "the example of the package" if found == EXAMPLE_FILE else str(found)
    return ChoiceReport(name, people, fit, acceptance_by_cell(people, fit.predicted), relate_scores(fit, table))


def acceptance_by_cell(people: Choices, predicted: np.ndarray) -> tuple[CellAcceptance, ...]:
    """By offer, on first trials of staircases where there are any: share accepted, and what was predicted.

    No cells where there are more than `MAX_CELLS` different offers.
    """
    counted = people.first if people.first.any() else people.known
    offers = np.unique(np.stack([people.effort[counted], people.reward[counted]], axis=1), axis=0)
    if len(offers) > MAX_CELLS:
        return ()
    found = []
    for effort, reward in offers:
        here = counted & (people.effort == effort) & (people.reward == reward)
        share = [float(values[here].mean()) for values in (people.accepted, predicted)]
        found.append(CellAcceptance(float(effort), float(reward), int(here.sum()), *share))
    return tuple(found)


def relate_scores(fit: ChoiceFit, scores: Mapping[str, np.ndarray]) -> tuple[ScoreRelation, ...]:
    """Slope of each preference on each score that has one, see `latent_regression`."""
    return tuple(
        ScoreRelation(score, name, each.value, each.low, each.high, each.subjects)
        for score, values in scores.items()
        if has_enough_scores(fit, values)
        for name, each in regress_latent(fit, values).items()
    )


def choices_to_json(found: ChoiceReport) -> dict[str, Any]:
    """The result as plain numbers; see the help of the command."""
    fit, people = found.fit, found.choices
    estimates = {
        kind: {name: {"value": each.value.tolist(), "error": each.error.tolist()} for name, each in by.items()}
        for kind, by in (("raw", fit.raw), ("shrunk", fit.shrunk))
    }
    unseen = {"mean": None, "sd": None, "low": None, "high": None}
    spread = {name: {k: getattr(each, k) for k in unseen} for name, each in fit.population.items()}
    return {
        "subjects": len(people),
        "trials": people.trials,
        "reference": fit.reference,
        "loglik_per_trial": float(fit.log_likelihood.sum()) / people.trials,
        "cells": [
            {"effort": c.effort, "reward": c.reward, "observed": c.observed, "predicted": c.predicted}
            for c in found.cells
        ],
        "population": {name: spread.get(name, unseen) for name in _reported_names(fit)},
        "identifiable": {
            name: {"identifiable": v.identifiable, "error": v.error, "subjects": v.subjects, "reason": v.reason}
            for name, v in fit.identifiable.items()
        },
        "reliability": fit.reliability,
        "relations": [relation._asdict() for relation in found.relations],
        "estimates": {"subject": list(fit.subject), "status": list(fit.status)} | estimates,
        "converged": fit.converged,
    }


def _reported_names(fit: ChoiceFit) -> tuple[str, ...]:
    """Preferences, seen or not, and what people share."""
    return tuple(dict.fromkeys((*fit.identifiable, *fit.population)))


def population_table(found: ChoiceReport, limit: int) -> list[Text]:
    """Means and spreads of each preference, and below them what can be told of whom."""
    columns = [
        TableColumn("of the population", left=True),
        TableColumn("mean"),
        TableColumn("95 % interval"),
        TableColumn("sd"),
    ]
    columns += [TableColumn("reliability"), TableColumn("unit", left=True)]
    rows, words = [], {}
    for name in _reported_names(found.fit):
        verdict, spread = found.fit.identifiable.get(name), found.fit.population.get(name)
        if spread is None:
            assert verdict is not None
            rows.append([TableCell(name, "bold"), *[TableCell("-")] * 4, TableCell("")])
            words.setdefault(f"not seen: {verdict.reason}", []).append(name)
            continue
        digits = _significant_digits(name, (spread.high - spread.low) / 2)
        told = np.isfinite(spread.high - spread.low)
        numbers = [f"{spread.mean:.{digits}f}", f"{spread.low:.{digits}f} to {spread.high:.{digits}f}" if told else "-"]
        numbers += [
            f"{spread.sd:.{digits}f}" if spread.sd else "shared",
            f"{found.fit.reliability.get(name, np.nan):.2f}",
        ]
        numbers[-1] = numbers[-1].replace("nan", "")
        rows.append(
            [
                TableCell(name, "bold"),
                *map(TableCell, numbers),
                TableCell((PREFERENCE_UNITS | SHARED_UNITS).get(name, "level felt")),
            ]
        )
        if reason := spread.reason or (verdict.reason if verdict else ""):
            words.setdefault(reason, []).append(name)
    said = [f"{', '.join(names)}: {reason}." for reason, names in words.items()]
    return [
        *render_table(columns, rows, limit),
        *(line for each in said for line in fold_text(each, limit, style="dim")),
    ]


def _significant_digits(name: str, half: float) -> int:
    """Decimals of a number known to within `half`: more for weights where a level is a small step, such as a cent."""
    if name == "lapse":
        return 3
    return min(max(2, int(np.ceil(-np.log10(half)))), 6) if 0 < half < 1 else 2


def cell_table(found: ChoiceReport) -> list[Text]:
    """Observed and predicted acceptance: a line for each effort, a column for each reward."""
    rewards = sorted({cell.reward for cell in found.cells})
    of = {(cell.effort, cell.reward): cell for cell in found.cells}
    columns = [TableColumn("effort", left=True)]
    columns += [
        TableColumn(f"{reward:g}", group) for group in ("observed, reward", "predicted, reward") for reward in rewards
    ]
    rows = []
    for effort in sorted({cell.effort for cell in found.cells}):
        row = [TableCell(f"{effort:g}", "bold")]
        for name in ("observed", "predicted"):
            row += [
                TableCell(f"{getattr(of[key], name):.3f}" if (key := (effort, reward)) in of else "")
                for reward in rewards
            ]
        rows.append(row)
    return render_table(columns, rows)


def relation_table(relations: Sequence[ScoreRelation], limit: int) -> list[Text]:
    """Slopes of preferences on scores, and how to read them."""
    columns = [TableColumn("score", left=True), TableColumn("preference", left=True), TableColumn("per s.d.")]
    columns += [TableColumn("95 % interval"), TableColumn("unit", left=True), TableColumn("subjects")]
    rows = []
    for each in relations:
        style = "bold" if each.low > 0 or each.high < 0 else ""
        numbers = [f"{each.slope:+.3f}", f"{each.low:+.3f} to {each.high:+.3f}"]
        cells = [TableCell(each.score), TableCell(each.preference), *(TableCell(number, style) for number in numbers)]
        rows.append([*cells, TableCell(PREFERENCE_UNITS.get(each.preference, "")), TableCell(f"{each.subjects}")])
    words = (
        "By how much the population's mean moves with a standard deviation of the score, from all choices at once. A "
        "slope of people's own estimates would be nearer to 0, about by their reliability. Where an interval holds 0, "
        "these people do not tell the slope from none; of slopes that are none, one interval in twenty leaves 0 out."
    )
    return [*render_table(columns, rows, limit), *fold_text(words, limit, style="dim")]


def fit_notes(found: ChoiceReport, limit: int) -> list[Text]:
    """What the tables do not hold."""
    fit, people = found.fit, found.choices
    counts = {status: fit.status.count(status) for status in dict.fromkeys(fit.status)}
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    worst = max((abs(cell.observed - cell.predicted) for cell in found.cells), default=np.nan)
    texts = [
        f"The bias is the willingness to take on effort {fit.reference['effort']:g} for reward {fit.reference['reward']:g}.",
        f"Log-likelihood {float(fit.log_likelihood.sum()) / people.trials:.4f} per trial. Subjects: {words}. "
        f"{'Converged' if fit.converged else 'NOT CONVERGED'} after {fit.rounds} rounds.",
        "Reliability: share of the population's variance that shrunk estimates carry; they correlate with the truth by "
        "its root at most.",
    ]
    if found.cells:
        kind = "the first trial of each staircase" if people.first.any() else "all trials"
        texts.append(f"Acceptance is that on {kind}; the largest difference is {worst:.3f}.")
    return [line for text in texts for line in fold_text(text, limit, style="dim")]


def print_fit(found: ChoiceReport, titled: Callable[[str, Sequence[Text]], None], limit: int) -> None:
    """Everything that the fit has to say, through `titled(heading, lines)`."""
    heading = f"{len(found.choices)} subjects, {found.choices.trials} choices: {found.name}"
    titled(heading, [*population_table(found, limit), *fit_notes(found, limit)])
    if found.cells:
        titled("Offers accepted", cell_table(found))
    if found.relations:
        titled("Preferences and scores", relation_table(found.relations, limit))
