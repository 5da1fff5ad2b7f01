"""What a command will take, before it runs: the planner's forecasts as a small table, and its reasons."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from ...model.interventions import has_doses_or_sessions
from ...simulation.conditions import depressed
from ...simulation.hardware import Machine, detect_machine
from ...simulation.moment import MOMENT_QUANTITIES
from ...simulation.planner import Forecast, forecast, format_bytes, format_duration
from ..reporting.text_table import Cell, Column, folded, lines
from . import trial


class Stage(NamedTuple):
    """A part of the work.

    Attributes:
        what: in words.
        times: how often it is done.
        forecast: of doing it once.
    """

    what: str
    times: int
    forecast: Forecast


def of_trial(
    subjects: int, weeks: int, arms: Sequence[str] | None, devices: int, machine: Machine | None = None
) -> list[Stage]:
    """The stages of a trial, but for the fits, whose time goes into compiling.

    Raises:
        ValueError: as `trial.run`.
    """
    chosen, machine = trial.check(subjects, weeks, arms), machine or detect_machine()
    found = trial.forecasts(chosen, subjects, weeks, devices, machine)
    acting = sum(has_doses_or_sessions(arm) for arm in chosen.values())
    drawn = forecast(subjects, days=float(depressed().days), quantities=0, devices=devices, machine=machine)
    stages = [Stage("draw the cohorts", 2, drawn)]
    stages.append(Stage("arms of tablets, or none", len(chosen) - acting, found.pop(trial.HEALTHY)))
    return stages + [Stage("arms of ketamine or sessions", acting, each) for each in found.values()]


def of_moment(seconds: float, machine: Machine | None = None) -> list[Stage]:
    """The stages of the command `moment`: one subject drawn, and simulated."""
    machine = machine or detect_machine()
    drawn = forecast(1, days=float(depressed().days), quantities=0, machine=machine)
    return [
        Stage("draw the subject", 1, drawn),
        Stage(
            f"{seconds:g} s of membrane currents",
            1,
            forecast(1, seconds=seconds, quantities=len(MOMENT_QUANTITIES), machine=machine),
        ),
    ]


def table(stages: Sequence[Stage], limit: int) -> list[Text]:
    """A line for each stage, the sum, and why."""
    columns = (
        Column("work", left=True),
        Column("times"),
        Column("on", left=True),
        Column("tile"),
        Column("devices"),
        Column("at once"),
        Column("memory"),
        Column("time"),
    )
    rows = [
        [
            Cell(stage.what, "bold"),
            Cell(str(stage.times)),
            Cell(f"{stage.forecast.platform}, {stage.forecast.plan.backend}"),
            Cell(str(stage.forecast.plan.tile)),
            Cell(str(stage.forecast.plan.devices)),
            Cell(f"{stage.forecast.chunk:,}"),
            Cell(format_bytes(stage.forecast.total)),
            Cell(format_duration(stage.times * stage.forecast.seconds)),
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
    return [*lines(columns, rows, limit), *(line for note in notes for line in folded(note, limit))]
