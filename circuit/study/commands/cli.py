"""The command line: `habenula doctor`, `evidence`, `fit`, `moment_table`, `session`, `trial` and `bench`.

Nothing here computes. A command checks what it was given, starts JAX (only now, so that help is instant), calls the
library, and shows what comes back; results go to standard output, progress and errors to standard error.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..reporting import labels
from ..runtime import errors, files, jax_setup
from ..runtime.errors import check_output_file, check_range, parse_shares
from . import bench as bench_script

app = typer.Typer(
    cls=errors.OneLineErrors,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class SubjectCondition(StrEnum):
    """In whom a moment is simulated."""

    healthy = "healthy"
    depressed = "depressed"


class EventKind(StrEnum):
    """What happens in a moment."""

    reward = "reward"
    aversive = "aversive"
    current = "current"


def _set_debug(ctx: Any, debug: bool) -> bool:
    ctx.meta["debug"] = debug
    return debug


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        print(f"habenula {version('habenula')}")
        raise typer.Exit
    return asked


Json = Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Also write the results as JSON.")]
Seed = Annotated[int, typer.Option(help="Names the virtual subjects and their noise.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say what it will take, and why, and leave.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show a traceback where an error occurs.")]


@app.callback()
def habenula(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Show the version and leave.")
    ] = False,
) -> None:
    """The lateral habenula circuit in depression and its treatment, simulated.

    A research instrument: nothing that it prints is medical advice.
    """


@app.command()
def doctor(
    probe: Annotated[bool, typer.Option("--probe", help="Measure the speed, for --explain; a minute.")] = False,
    json: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Check this installation: versions, devices, and whether it computes what it should.

    Leaves with code 1 if a check fails.

    [bold]Examples[/bold]

    \b
    habenula doctor
    habenula doctor --json doctor.json
    habenula doctor --probe

    JSON: {passed, checks: [{name, found, passed}]}, passed being null where there is nothing to pass.
    """
    check_output_file(json)
    jax_setup.start_jax()
    from . import doctor as surgery

    out, found = Console(), []
    marks = {True: "[green]✓[/green]", False: "[bold red]✗[/bold red]", None: " "}
    for check in surgery.run_checks(probe):
        found.append(check)
        out.print(f"{marks[check.passed]} {check.name:<18}", end="", highlight=False)
        out.print(check.found, markup=False, highlight=False, soft_wrap=True)
    if json:
        files.write_json(json, surgery.checks_to_json(found))
    if not surgery.all_passed(found):
        raise typer.Exit(errors.FAILED)


@app.command()
def evidence(json: Json = None, seed: Seed = 1, quiet: Quiet = False, debug: Debug = False) -> None:
    r"""Print published figures beside simulated ones, with a verdict on each.

    Rows of role calibrate were fitted to; rows of role check never were.

    [bold]Examples[/bold]

    \b
    habenula evidence
    habenula evidence --json evidence.json

    JSON: {rows: [{id, role, value, low, high, unit, simulated, verdict}]}, where the verdict is inside, outside or
    not modelled.
    """
    check_range("--seed", seed, 0, 2**32 - 1)
    check_output_file(json)
    jax_setup.start_jax()
    from ...data import evidence as published
    from ..experiments.scoreboard import explain_absences, simulate_scores
    from ..reporting import tables

    with _progress(quiet) as report:
        simulated = simulate_scores(seed, report)
    out = Console()
    for role, title in (("calibrate", "Calibrated on"), ("check", "Checked against, never fitted to")):
        heading = f"{title}: {tables.count_verdicts(simulated, role)}"
        tables.print_titled(out, heading, tables.scoreboard_table(simulated, role, tables.console_width(out)))
    if missing := explain_absences(simulated):
        tables.print_titled(out, "Not modelled, and why", tables.absence_table(missing, tables.console_width(out)))
    tables.print_titled(out, "Where published findings disagree", tables.contradiction_lines(tables.console_width(out)))
    if json:
        rows = [
            _evidence_row(row, simulated.get(row.id), published.compare_with_evidence)
            for row in published.load_evidence()
        ]
        files.write_json(json, {"rows": rows})


@app.command()
def fit(
    choices: Annotated[
        Path | None, typer.Argument(metavar="[CHOICES]", help="A file of choices, csv or csv.gz.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="A file with a line of scores for each subject.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figure goes; its ending says the format.")] = Path("fit.png"),
    json: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Fit people's choices between effort and rest: bias, reward weight and effort weight of everyone at once.

    CHOICES has columns subject, trial, effort, reward, choice (1 accepted, 0 declined) and, if known, staircase and rt
    (ms). Without it, the example that comes with the package is fitted. Scores, such as of anhedonia, are set beside the
    preferences found.

    [bold]Examples[/bold]

    \b
    habenula fit
    habenula fit choices.csv --json fit.json
    habenula fit trials.csv.gz --scores subjects.csv --out people.pdf

    JSON: {subjects, trials, reference: {effort, reward}, loglik_per_trial, cells: [{effort, reward, observed,
    predicted}], population: {name: {mean, sd, low, high}}, identifiable: {name: {identifiable, error, subjects,
    reason}}, reliability, relations, estimates: {subject, status, raw, shrunk}, converged}; cells are of the first
    trials of staircases where the file has them.
    """
    check_output_file(json)
    jax_setup.start_jax()
    from ..reporting import plot_choices, tables
    from . import fit_choices

    with _progress(quiet) as report:
        found = fit_choices.run_fit(choices, scores, report)
    plot_choices.plot_choices_fit(found, out)
    screen = Console()
    fit_choices.print_fit(
        found, lambda title, lines: tables.print_titled(screen, title, lines), tables.console_width(screen)
    )
    screen.print(f"Figure: {out}", markup=False, highlight=False, soft_wrap=True)
    if json:
        files.write_json(json, fit_choices.choices_to_json(found))


@app.command()
def moment(
    subject: Annotated[SubjectCondition, typer.Argument(help="Whose circuit.")] = SubjectCondition.depressed,
    seconds: Annotated[float, typer.Option(help="Length, above 0 and up to 600.")] = 2.0,
    event: Annotated[EventKind | None, typer.Option(help="Something that happens.")] = None,
    size: Annotated[
        float, typer.Option(help="1: a full reward, a strong air puff, 1 uA/cm2; a reward may be -1.")
    ] = 1.0,
    at: Annotated[float, typer.Option(help="When it begins, in s.")] = 1.0,
    lasts: Annotated[float, typer.Option(help="How long it lasts, in s.")] = 0.2,
    out: Annotated[Path, typer.Option(help="Where the figure goes; its ending says the format.")] = Path("moment.png"),
    json: Json = None,
    seed: Seed = 1,
    explain: Explain = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Simulate one subject for seconds: membrane currents, firing modes, dopamine.

    [bold]Examples[/bold]

    \b
    habenula moment
    habenula moment healthy --event reward --size -1
    habenula moment --seconds 4 --event aversive --at 2 --lasts 0.5 --json moment.json

    JSON: {subject, seed, modes, mean, t, record}, in ms, Hz and uM; active and the modes are shares.
    """
    check_range("--seed", seed, 0, 2**32 - 1)
    check_range("--seconds", seconds, 0.01, 600)
    check_output_file(json)
    if event and not 0 <= at < seconds:
        raise ValueError(f"--at {at:g} lies outside the moment, which lasts {seconds:g} s.")
    if event and lasts <= 0:
        raise ValueError(f"--lasts {lasts:g} must be above 0.")
    jax_setup.start_jax()
    from ...simulation import conditions
    from ...simulation.moment import Event
    from ...simulation.moment import moment as simulate
    from ..reporting import tables
    from .explain import moment_stages, stage_table

    stages = moment_stages(seconds)
    if explain:
        tables.print_titled(Console(), "What it will take", stage_table(stages, tables.console_width(Console())))
        return
    how = stages[-1].forecast
    events = (Event(event.value, 1000 * at, 1000 * lasts, size),) if event else ()
    with _progress(quiet) as report, how.device():
        _report_stage(report, f"history of a {subject.value} subject", 0, 2)
        cohort = conditions.draw(
            getattr(conditions, subject.value)(), subjects=1, seed=seed, plan=stages[0].forecast.plan
        )
        _report_stage(report, f"{seconds:g} s of membrane currents", 1, 2)
        seen = simulate(cohort, seconds, events=events, plan=how.plan)
        _report_stage(report, f"{seconds:g} s of membrane currents", 2, 2)
    from ..reporting import plots  # only now, as it takes its time

    title = f"A {subject.value} subject, {seconds:g} s"
    plots.plot_moment(seen, out, events, title)
    screen = Console()
    tables.print_titled(screen, title, tables.moment_table(seen))
    screen.print(f"Figure: {out}", markup=False, highlight=False, soft_wrap=True)
    if json:
        files.write_json(json, {"subject": subject.value, "seed": seed} | tables.moment_to_json(seen))


@app.command()
def session(
    subjects: Annotated[int, typer.Option(help="Of each kind: healthy, and the same people depressed.")] = 16,
    trials: Annotated[int, typer.Option(help="How many; all cues come equally often.")] = 48,
    reward: Annotated[str, typer.Option(metavar="P,P", help="Probability of reward after each cue.")] = "1,0.5,0,0",
    puff: Annotated[str, typer.Option(metavar="P,P", help="Probability of an air puff after each.")] = "0,0,0,0.5",
    flip: Annotated[
        int | None, typer.Option(help="Trials after which the cues change places, the first with the last.")
    ] = None,
    json: Json = None,
    seed: Seed = 1,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Let subjects learn what cues predict, trial by trial on the fast clock, in health and in depression.

    Prints what the LHb and dopamine neurons answer to cues, rewards, omissions and air puffs in the second half of the
    session, the prediction errors there, and what each cue is worth by the end.

    [bold]Examples[/bold]

    \b
    habenula session
    habenula session --reward 1,0 --puff 0,0 --trials 40 --flip 20
    habenula session --subjects 64 --json session.json

    JSON: {subjects, trials, seed, task, groups: {healthy, depressed: {events: [{cue, event, trials, habenula, rate,
    error}], worth, lost}}}; the last three and worth are {mean, low, high} over subjects, in Hz and full rewards.
    """
    check_range("--subjects", subjects, 1, 4096)
    check_range("--trials", trials, 1, 10_000)
    check_range("--seed", seed, 0, 2**32 - 1)
    check_output_file(json)
    rewarded, puffed = parse_shares("--reward", reward), parse_shares("--puff", puff)
    devices = jax_setup.start_jax()
    from ..reporting import tables
    from . import session

    with _progress(quiet) as report:
        found = session.run_session(
            subjects, trials, session.CueSchedule(rewarded, puffed, flip), seed, devices, report
        )
    screen = Console()
    title = f"A session of {trials} trials, {subjects} subjects of each kind"
    tables.print_titled(screen, title, session.session_table(found, tables.console_width(screen)))
    if json:
        files.write_json(json, session.session_to_json(found))


@app.command()
def trial(
    subjects: Annotated[int, typer.Option(help="Virtual depressed subjects, each simulated under every arm.")] = 1024,
    weeks: Annotated[int, typer.Option(help="Length, up to 104; stress returns in week 10.")] = 12,
    arms: Annotated[str, typer.Option(help=f"Comma list of: {', '.join(labels.ARM_LABELS)}. All if empty.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for trial.png, trial.txt and trial.json.")] = Path("habenula-trial"),
    json: Json = None,
    seed: Seed = 1,
    explain: Explain = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Treat a depressed cohort in several arms, stress it again, and fit regimens that restore VTA output.

    Stress returns in week 10. Prints one table, what it shows, and the fitted regimens; saves a figure.

    [bold]Examples[/bold]

    \b
    habenula trial
    habenula trial --subjects 128 --weeks 4 --arms placebo,ketamine_once
    habenula trial --seed 2 --out second --json second.json
    habenula trial --subjects 1000000 --explain

    JSON: {arms: {name: {day, vta_output, vta_low, vta_high, active, rate, dopamine, drive, liking, mood, burst, ...}},
    claims, restore: {name: {target, before, after, fitted, starts, status, reason}}, provenance}, relative to health.
    """
    check_range("--subjects", subjects, 1)
    check_range("--weeks", weeks, 1, 104)
    check_range("--seed", seed, 0, 2**32 - 1)
    check_output_file(json)
    chosen = labels.parse_arms(arms)
    if not explain:
        out.mkdir(parents=True, exist_ok=True)  # now, so that a long run does not end where it cannot write
    devices = jax_setup.start_jax()
    from ..reporting import tables

    if explain:
        from .explain import stage_table, trial_stages

        found = stage_table(trial_stages(subjects, weeks, chosen, devices), tables.console_width(Console()))
        tables.print_titled(Console(), "What it will take", found)
        return
    from .trial import run_trial

    with _progress(quiet) as report:
        result = run_trial(subjects, weeks, chosen, seed, devices, report)
    from ..reporting import plots  # only now, as it takes its time

    screen = Console()
    tables.print_trial(screen, result)
    plots.plot_trial(result, out / "trial.png")
    with files.replace_atomically(out / "trial.txt") as partial, partial.open("w", encoding="utf-8") as page:
        tables.print_trial(Console(file=page, width=tables.DEFAULT_WIDTH), result)
    for path in (out / "trial.json", *([json] if json else [])):
        files.write_json(path, result.to_json())
    screen.print(f"\nFigure, table and numbers: {out}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def bench(
    cases: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(bench_script.BENCHMARK_CASES)}; all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes.")] = False,
    engines: Annotated[str, typer.Option(metavar="A,B", help="Rivals in case lhb; all that are installed.")] = "",
    append: Annotated[bool, typer.Option(help="Add the rows to benchmarks/results.csv.")] = True,
    json: Json = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    r"""Measure speed against other engines on the same work, clock by clock, and by size. Needs a checkout.

    Every engine is checked to do the same work before it is timed; leaves with code 1 if one does not.

    [bold]Examples[/bold]

    \b
    habenula bench lhb --quick
    habenula bench lhb --engines c,scan --no-append
    habenula bench slow fast --json speed.json

    JSON: {rows: [{case, engine, unit, rate, low, high, ratio, equal, ...}], missing, wrong}, the last two by engine.
    """
    check_output_file(json)
    options = {"--quick": quick, "--no-append": not append, "--quiet": quiet}
    words = [*(cases or []), *(name for name, given in options.items() if given)]
    words += ["--engines", engines] if engines else []
    words += ["--json", str(json.absolute())] if json else []
    if code := bench_script.run_benchmark(words):
        raise typer.Exit(code)


def main() -> None:
    """The console entry `habenula`."""
    app(prog_name="habenula")


def _progress(quiet: bool):
    from ..runtime.progress import show_progress

    return show_progress(Console(stderr=True), quiet)


def _report_stage(report, stage: str, done: int, total: int) -> None:
    if report:
        report(stage, done, total)


def _evidence_row(row, simulated: float | None, verdict) -> dict[str, object]:
    """One row of `evidence --json`."""
    kept = {name: getattr(row, name) for name in ("id", "role", "value", "low", "high", "unit")}
    return kept | {"simulated": simulated, "verdict": verdict(row, simulated)}


if __name__ == "__main__":
    main()
