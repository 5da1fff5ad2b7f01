"""What a command will take, before it runs: the planner's forecasts as a small table, and its reasons."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from ...model.interventions import has_doses_or_sessions
from ...simulation.conditions import depressed
from ...simulation.hardware import Machine, detect_machine
from ...simulation.moment import MOMENT_QUANTITIES
from ...simulation.planner import Forecast, forecast, format_bytes, format_duration
from ..reporting.text_table import TableCell, TableColumn, fold_text, render_table
from . import trial


class RunStage(NamedTuple):
    """A part of the work.

    Attributes:
        what: in words.
        times: how often it is done.
        forecast: of doing it once.
    """

    what: str
    times: int
    forecast: Forecast


def trial_stages(
    subjects: int, weeks: int, arms: Sequence[str] | None, devices: int, machine: Machine | None = None
) -> list[RunStage]:
    """The stages of a trial, but for the fits, whose time goes into compiling.

    Raises:
        ValueError: as `trial.run`.
    """
    chosen, machine = trial.check_arms(subjects, weeks, arms), machine or detect_machine()
    found = trial.forecast_arms(chosen, subjects, weeks, devices, machine)
    acting = sum(has_doses_or_sessions(arm) for arm in chosen.values())
    drawn = forecast(subjects, days=float(depressed().days), quantities=0, devices=devices, machine=machine)
    stages = [RunStage("draw the cohorts", 2, drawn)]
    stages.append(RunStage("arms of tablets, or none", len(chosen) - acting, found.pop(trial.HEALTHY_ARM)))
    return stages + [RunStage("arms of ketamine or sessions", acting, each) for each in found.values()]


def moment_stages(seconds: float, machine: Machine | None = None) -> list[RunStage]:
    """The stages of the command `moment`: one subject drawn, and simulated."""
    machine = machine or detect_machine()
    drawn = forecast(1, days=float(depressed().days), quantities=0, machine=machine)
    return [
        RunStage("draw the subject", 1, drawn),
        RunStage(
            f"{seconds:g} s of membrane currents",
            1,
            forecast(1, seconds=seconds, quantities=len(MOMENT_QUANTITIES), machine=machine),
        ),
    ]


def stage_table(stages: Sequence[RunStage], limit: int) -> list[Text]:
    """A line for each stage, the sum, and why."""
    columns = (
        TableColumn("work", left=True),
        TableColumn("times"),
        TableColumn("on", left=True),
        TableColumn("tile"),
        TableColumn("devices"),
        TableColumn("at once"),
        TableColumn("memory"),
        TableColumn("time"),
    )
    rows = [
        [
            TableCell(stage.what, "bold"),
            TableCell(str(stage.times)),
            TableCell(f"{stage.forecast.platform}, {stage.forecast.plan.backend}"),
            TableCell(str(stage.forecast.plan.tile)),
            TableCell(str(stage.forecast.plan.devices)),
            TableCell(f"{stage.forecast.chunk:,}"),
            TableCell(format_bytes(stage.forecast.total)),
            TableCell(format_duration(stage.times * stage.forecast.seconds)),
        ]
        for stage in stages
    ]
    longest = max(stages, key=lambda stage: stage.times * stage.forecast.seconds).forecast
    whole = sum(stage.times * stage.forecast.seconds for stage in stages)
    rates = "measured on this machine" if longest.measured else "assumed: habenula doctor --probe measures this machine"
    notes = [
        f"In all {format_duration(whole)}, and up to {format_duration(len(stages) * longest.compiling)} "
        "to compile what no earlier run has.",
        f"Rates are {rates}. Memory is that of the whole process at the worst time.",
        *longest.why,
    ]
    return [*render_table(columns, rows, limit), *(line for note in notes for line in fold_text(note, limit))]
