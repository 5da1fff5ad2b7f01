"""The command line: help, errors in one line, files, exit codes. Long work is replaced by invented results."""

import importlib
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from fake_trial import trial
from typer.testing import CliRunner

from habenula.circuit.data import evidence
from habenula.circuit.simulation import hardware
from habenula.circuit.study.commands import bench, cli, doctor
from habenula.circuit.study.reporting import labels
from habenula.circuit.study.runtime import files, jax_setup, progress


@pytest.fixture
def habenula(monkeypatch, tmp_path):
    """Call the command line in an empty folder, without touching the configuration of this process's JAX."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "start_jax", lambda: 2)
    return lambda *args: CliRunner().invoke(cli.app, list(args))


@pytest.fixture
def given(monkeypatch):
    """What `trial.run` and `scoreboard.score` were called with; they return invented results."""
    calls = {}
    importlib.import_module(
        "habenula.circuit.study.commands.explain"
    )  # which holds the real trial, whatever test comes first

    def run_trial(subjects, weeks, arms, seed, devices, report):
        calls["run"] = (subjects, weeks, arms, seed, devices)
        if report:
            report("arms", 0, 2)
            report("arms", 2, 2)
        return trial(weeks, arms)

    def simulate_scores(seed, report):
        calls["score"] = seed
        return {"lhb.rmp": -47.0, "lhb.burst.hz": 40.0, "spiral": math.nan, "lhb.rate.ratio": None}

    for name, function in (("commands.trial", run_trial), ("experiments.scoreboard", simulate_scores)):
        real = importlib.import_module(f"habenula.circuit.study.{name}")
        fake = types.ModuleType(name)
        vars(fake).update(vars(real))
        setattr(fake, function.__name__, function)
        monkeypatch.setitem(sys.modules, f"habenula.circuit.study.{name}", fake)
    return calls


@pytest.mark.parametrize("command", ["doctor", "evidence", "fit", "moment", "session", "trial", "bench"])
def test_help_has_examples_and_names_the_keys_of_its_json(habenula, command):
    result = habenula(command, "--help")
    assert result.exit_code == 0
    assert f"habenula {command} " in result.output
    for expected in ("Examples", "--json", "--quiet", "JSON:"):
        assert expected in result.output
    assert ("--seed" in result.output) == (command not in ("doctor", "fit", "bench"))
    assert command in habenula().output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("trial --subjects 0", "--subjects 0 is impossible: give at least 1."),
        ("trial --weeks 0", "--weeks 0 is impossible: give a number from 1 to 104."),
        ("trial --seed -1", "--seed -1 is impossible: give a number from 0 to 4294967295."),
        ("trial --arms ketamin_once", "no arm is called 'ketamin_once'; did you mean ketamine_once?"),
        ("trial --arms wine", f"no arm is called 'wine'; choose from {', '.join(labels.ARM_LABELS)}."),
        ("trial --arms ssri,ssri", "arm 'ssri' is given 2 times; name each once."),
        ("trial --json .", "--json . is a folder: give the name of a file."),
        ("moment --seconds 0", "--seconds 0.0 is impossible: give a number from 0.01 to 600."),
        ("moment --seconds nan", "--seconds nan is impossible: give a number from 0.01 to 600."),
        ("moment --event reward --at 3", "--at 3 lies outside the moment, which lasts 2 s."),
        ("moment --event reward --lasts 0", "--lasts 0 must be above 0."),
        ("session --subjects 0", "--subjects 0 is impossible: give a number from 1 to 4096."),
        ("session --reward 1,many", "--reward 1,many: 'many' is no number; give a comma list such as 1,0.5."),
        ("session --puff 0,0,0,2", "--puff 2.0 is impossible: give a number from 0 to 1."),
        ("session --reward 1,0", "--reward has 2 cues, --puff 4: give a probability of each for every cue."),
        ("session --trials 7", "--trials 7 show 4 cues less than twice: give more, or fewer cues."),
        ("session --flip 25", "--flip 25 must lie in the first half of the session, from 1 to 24."),
    ],
)
def test_an_error_is_one_line_that_names_the_value_and_the_fix(habenula, given, arguments, says):
    result = habenula(*arguments.split())
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"habenula: {says}\n")
    assert not given, "nothing is computed"


@pytest.mark.parametrize("arguments", ["tril", "trial --subject", "trial --subjects many", "moment sad"])
def test_a_misspelt_command_is_one_line_too(habenula, arguments):
    result = habenula(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("habenula: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("two\nlines"), "two lines"),
        (RuntimeError("unforeseen"), "RuntimeError: unforeseen; --debug shows where"),
        (KeyError("x"), "KeyError: 'x'; --debug shows where"),
    ],
)
def test_errors_of_the_library(habenula, given, monkeypatch, error, says):
    def fail(*_):
        raise error

    monkeypatch.setattr(sys.modules["habenula.circuit.study.experiments.scoreboard"], "simulate_scores", fail)
    result = habenula("evidence", "--quiet")
    assert (result.exit_code, result.stderr) == (2, f"habenula: {says}\n")
    result = habenula("evidence", "--debug")
    assert result.exception is error


def test_a_trial_is_printed_and_kept(habenula, given, tmp_path):
    result = habenula("trial", "--subjects", "16", "--weeks", "12", "--arms", "placebo,ssri", "--json", "deep/t.json")
    assert result.exit_code == 0, result.stderr
    assert given["run"] == (16, 12, ["placebo", "ssri"], 1, 2)
    assert "SSRI" in result.stdout
    assert result.stderr == "arms ...\n"
    assert sorted(path.name for path in (tmp_path / "habenula-trial").iterdir()) == [
        "trial.json",
        "trial.png",
        "trial.txt",
    ]
    assert (tmp_path / "habenula-trial" / "trial.txt").read_text(encoding="utf-8") in result.stdout
    data = json.loads((tmp_path / "deep" / "t.json").read_text(encoding="utf-8"))
    assert set(data) == {"arms", "claims", "restore", "provenance"}
    keys = "day vta_output vta_low vta_high active rate dopamine drive liking mood burst"
    for arm in data["arms"].values():
        assert set(arm) >= set(keys.split())
        assert len({len(values) for values in arm.values()}) == 1
        assert arm["day"][0] == 0
    for found in data["restore"].values():
        assert set(found) >= {"target", "before", "after", "fitted", "starts", "status"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [("trial --subjects 2000000 --explain", "arms of tablets, or none"), ("moment --explain", "membrane currents")],
)
def test_explained_work_is_not_done(habenula, given, tmp_path, arguments, says):
    result = habenula(*arguments.split())
    assert result.exit_code == 0, result.stderr
    assert says in result.stdout
    assert "In all" in result.stdout
    assert not given
    assert not list(tmp_path.iterdir())


def test_quiet_is_silent(habenula, given):
    result = habenula("trial", "--quiet", "--weeks", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert given["run"][2] is None


def test_a_folder_that_cannot_be_made_is_known_before_the_work(habenula, given, tmp_path):
    (tmp_path / "taken").write_text("a file")
    result = habenula("trial", "--out", "taken")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "taken" in result.stderr
    assert not given


def test_evidence(habenula, given, tmp_path):
    result = habenula("evidence", "--json", "e.json", "--seed", "3")
    assert result.exit_code == 0, result.stderr
    assert given["score"] == 3
    parts = ("Calibrated on", "Checked against", "Not modelled, and why", "Where published findings disagree")
    places = [result.stdout.index(part) for part in parts]
    assert places == sorted(places)
    assert "- lhb.synch.depressed, lhb.synch.ketamine: the neurons of a population are not coupled" in result.stdout
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [row["id"] for row in rows] == [row.id for row in evidence.load_evidence()]
    assert all(set(row) == {"id", "role", "value", "low", "high", "unit", "simulated", "verdict"} for row in rows)
    of = {row["id"]: (row["simulated"], row["verdict"]) for row in rows}
    assert of["lhb.rmp"] == (-47.0, "inside")
    assert of["lhb.burst.hz"] == (40.0, "outside")
    assert of["spiral"] == of["lhb.rate.ratio"] == (None, "not modelled")


@pytest.mark.nightly
def test_a_moment(habenula, tmp_path):
    options = "--seconds 0.2 --event aversive --at 0.1 --json m.json --out m.png"
    result = habenula("moment", "healthy", *options.split())
    assert result.exit_code == 0, result.stderr
    data = json.loads((tmp_path / "m.json").read_text())
    assert set(data) == {"subject", "seed", "modes", "mean", "t", "record"}
    assert {len(values) for values in data["record"].values()} == {len(data["t"])} == {200}
    assert (tmp_path / "m.png").stat().st_size > 10_000


def test_the_doctor_passes(habenula, tmp_path):
    result = habenula("doctor", "--json", "d.json")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "✗" not in result.stdout
    data = json.loads((tmp_path / "d.json").read_text())
    assert data["passed"] is True
    names = [check["name"] for check in data["checks"]]
    assert names[-3:] == ["transfer function", "sums", "hoisted loop"]


def test_the_doctor_measures_speed_when_asked(habenula, monkeypatch):
    monkeypatch.setattr(
        doctor.probe, "measure_rates", lambda: hardware.DeviceRates(3e6, 1e6, 2e8, 1e-6, 0.01, 9.0, measured=True)
    )
    for name in ("_check_transfer_function", "_check_sums", "_check_hoisting"):
        monkeypatch.setattr(doctor, name, lambda: doctor.InstallationCheck("left out", ""))
    result = habenula("doctor", "--probe")
    assert "3e+06 subject-hours/s, 2e+08 neuron-steps/s on each device, measured" in result.stdout


def test_the_doctor_finds_wrong_sums(habenula, monkeypatch):
    right = doctor.jnp.sum
    monkeypatch.setattr(doctor.jnp, "sum", lambda x: right(x) * 1.001)
    assert doctor.largest_sum_error() > doctor.SUM_TOLERANCE
    for name in ("_check_transfer_function", "_check_hoisting"):
        monkeypatch.setattr(doctor, name, lambda: doctor.InstallationCheck("left out", ""))
    result = habenula("doctor")
    assert result.exit_code == 1
    assert "wrong by 0.0" in result.stdout
    assert "39103" in result.stdout


def test_the_doctor_knows_the_faulty_version(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "0.10.2")
    assert doctor._check_package("jax").passed is False
    assert doctor._check_package("numpy").passed is None
    monkeypatch.setattr(doctor, "has_hoisted_call", lambda program: False)
    assert doctor._check_hoisting().passed is False


def test_the_command_line_does_not_wait_for_jax():
    """Help must be instant: up to the call of a command, its modules import neither JAX nor Matplotlib."""
    script = (
        "import sys, habenula.circuit.study.commands.cli; "
        "assert not {'jax', 'matplotlib', 'numpy'} & set(sys.modules), 'slow'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jax_setup.compile_cache_folder().parent == tmp_path / "habenula"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert jax_setup.compile_cache_folder().parts[-4:-2] == ("Library", "Caches")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert jax_setup.compile_cache_folder().parent == tmp_path / "local" / "habenula"


def test_starting_jax_leaves_what_the_user_has_set():
    before = jax_setup.active_cache_folder()
    assert jax_setup.start_jax() == 2  # the devices of conftest.py
    assert jax_setup.active_cache_folder() == before


def test_small_programs_are_kept_too(tmp_path):
    """A second start compiles nothing: every program of the first is in the cache."""
    script = (
        "from habenula.circuit.study.runtime import jax_setup; jax_setup.start_jax(); import jax, jax.numpy as jnp\n"
        "found = []\n"
        "jax.monitoring.register_event_listener(lambda name, **_: found.append(name))\n"
        "jnp.arange(12.0).reshape(3, 4).sum().block_until_ready()\n"
        "print(sum(name.endswith('cache_misses') for name in found), sum(name.endswith('cache_hits') for name in found))"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = lambda: subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    first, second = ([int(count) for count in start().stdout.split()] for _ in range(2))
    assert first[0] > 0
    assert second[0] == 0
    assert second[1] > 0


def test_json_is_whole_and_has_no_nan(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": [math.nan, np.float32(1.5), math.inf], "b": None})
    assert json.loads(path.read_text()) == {"a": [None, 1.5, None], "b": None}
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text())["b"] is None
    assert list(tmp_path.iterdir()) == [path]


def test_a_terminal_gets_bars(capsys):
    from rich.console import Console

    with progress.show_progress(Console(force_terminal=True, width=80)) as report:
        assert report
        report("arms", 1, 2)
        report("arms", 2, 2)
    assert "2/2" in capsys.readouterr().out


def test_the_version(habenula, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    assert habenula("--version").stdout == "habenula 9.9\n"


def test_the_benchmark_gets_what_was_asked(habenula, monkeypatch, tmp_path):
    script = tmp_path / "run.py"
    script.write_text("import sys\nprint(sys.argv[1:], file=open('told.txt', 'w'))\nsys.exit(1)\n")
    monkeypatch.setattr(bench, "BENCHMARK_SCRIPT", script)
    result = habenula("bench", "lhb", "slow", "--quick", "--engines", "c,scan", "--no-append", "--json", "out.json")
    assert result.exit_code == 1  # what the script left with
    expected = ["lhb", "slow", "--quick", "--no-append", "--engines", "c,scan", "--json", str(tmp_path / "out.json")]
    assert (tmp_path / "told.txt").read_text().strip() == str(expected)


def test_the_benchmark_is_not_in_a_wheel(habenula, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "BENCHMARK_SCRIPT", tmp_path / "benchmarks" / "run.py")
    result = habenula("bench")
    assert result.exit_code == 2
    assert "the benchmark is not installed with the package" in result.stderr
    assert "pip install -e '.[bench]'" in result.stderr
