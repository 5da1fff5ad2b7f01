"""A forecast that is off by more than a factor of 2 is said to be wrong, and the benchmark fails."""

import importlib
import sys

import numpy as np
import pytest

plan_check = importlib.import_module("plan_check")
run = importlib.import_module("run")

RUNS = {"course": ({"subjects": 8, "days": 1.0}, {"subjects": 16, "days": 2.0})}


def carried(seconds, gibibytes):
    return lambda name, options: [("time", 1.0, seconds, 0.5), ("memory", 2.0, gibibytes, 0.5)]


def test_right_forecasts_are_rows_and_no_more():
    rows = plan_check.checked(True, RUNS, carried(1.9, 1.1))
    assert [(row["unit"], row["rate"], row["ratio"], row["equal"]) for row in rows] == [
        ("s, taken", 1.9, 1.9, True),
        ("GiB, taken", 1.1, 0.55, True),
    ]
    assert {row["subjects"] for row in rows} == {8}


@pytest.mark.parametrize(
    ("seconds", "gibibytes", "off"), [(2.1, 2.0, "time"), (0.4, 2.0, "time"), (1.0, 0.9, "memory")]
)
def test_wrong_forecasts_are_named_and_fail(monkeypatch, capsys, seconds, gibibytes, off):
    monkeypatch.setattr(plan_check, "RUNS", RUNS)
    rows = plan_check.checked(False, RUNS, carried(seconds, gibibytes))
    wrong = [row for row in rows if "rate" not in row]
    assert [row["why"].split()[0] for row in wrong] == [off]
    monkeypatch.setattr(run.plan_check, "checked", lambda quick: rows)
    monkeypatch.setattr(sys, "argv", ["run.py", "plan", "--no-append"])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == 1
    assert "the planner, course did not do the same work" in " ".join(capsys.readouterr().err.split())


def test_the_peak_of_this_process_is_seen():
    before = plan_check.peak()
    held = np.ones(2**25)  # 256 MiB
    assert plan_check.peak() - before > 0.5 * held.nbytes or before > 2**31
    assert 2**25 < plan_check.peak() < 2**40
