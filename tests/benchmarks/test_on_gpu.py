"""The benchmark of both clocks on a GPU: what fails or hangs is named, and the others have their rows."""

import importlib
import sys
import time
from pathlib import Path

import pytest

on_gpu = importlib.import_module("on_gpu")
paired = importlib.import_module("paired")
rows_of = importlib.import_module("rows")
run = importlib.import_module("run")
workload = importlib.import_module("workload")

ROOT = Path(__file__).resolve().parents[2]
CASE = on_gpu.Case((100, 10), "M subject-hours/s", 0, 4, lambda cohort, plan: None)


def measured(monkeypatch, **by_backend):
    """Rows and words where a run on each backend gives (or says) this."""
    monkeypatch.setattr(on_gpu, "alone", lambda function, name, backend, quick, rounds: by_backend[backend])
    return list(on_gpu.measured(True, 1, lambda text: None, tuple(by_backend), {"gpu, case": CASE}))


def test_the_tests_that_come_first_are_all_that_need_a_gpu():
    marked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__) and "pytest.mark.gpu" in path.read_text()
    }
    assert marked == set(on_gpu.GPU_TESTS)


def test_rows_of_both_ways_to_run(monkeypatch):
    first, second = measured(monkeypatch, fused=([2.0], 1.0, [5.0, 3.0]), scan=([8.0], 0.5, [5.01, 3.0]))
    assert (first["told"]["engine"], first["ratio"], first["work"]) == ("habenula-fused", 1.0, 40)
    assert (second["told"]["engine"], second["ratio"]) == ("habenula-scan", 0.25)
    row = rows_of.row(second["told"], second["work"], second["timing"], second["ratio"], 0.0, "a GPU")
    assert set(row) == set(rows_of.FIELDS)
    assert (row["device"], row["equal"], row["compile_seconds"]) == ("a GPU", True, 0.5)


def test_one_that_fails_leaves_the_other(monkeypatch):
    failed, row = measured(monkeypatch, fused="out of memory", scan=([8.0], 0.5, [5.0]))
    assert (failed["engine"], failed["why"], failed["missing"]) == ("fused, gpu, case", "out of memory", False)
    assert (row["told"]["engine"], row["ratio"]) == ("habenula-scan", 1.0)


@pytest.mark.parametrize("mean", [5.2, float("nan")])
def test_another_result_is_no_row(monkeypatch, mean):
    row, differs = measured(monkeypatch, fused=([2.0], 1.0, [4.0, 5.0]), scan=([8.0], 0.5, [4.0, mean]))
    assert row["told"]["equal"] is True
    assert "differ from those of the first by" in differs["why"]
    nothing, _ = measured(monkeypatch, fused=([2.0], 1.0, [4.0, float("nan")]), scan=([8.0], 0.5, [4.0, mean]))
    assert nothing["missing"] is False


def test_a_process_that_hangs_ends_or_raises_is_told_apart():
    assert on_gpu.alone(divmod, 7, 2) == (3, 1)
    assert on_gpu.alone(time.sleep, 60, limit=1.0) == "no end within 1 s"
    assert on_gpu.alone(sys.exit, 3) == "its process ended without a word, with code 3"
    assert "ZeroDivisionError" in on_gpu.alone(divmod, 1, 0)


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(run.cuda_kernel, "device", lambda: None)
    (word,) = run.gpu(True, [])
    assert (word["missing"], word["why"]) == (True, "no NVIDIA GPU")


def test_a_race_goes_on_without_ours_and_without_who_breaks_off(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(
        "def available():\n    return None\n"
        "def prepare(workload, cores=1):\n    raise MemoryError('no room on the card')\n"
    )
    (tmp_path / "breaking.py").write_text(
        "import rivals.numpy_steps as right\n"
        "def available():\n    return None\n"
        "def prepare(workload, cores=1):\n"
        "    run, made = right.prepare(workload, cores), []\n"
        "    def once():\n"
        "        made.append(1)\n"
        "        if len(made) > 2:\n            raise RuntimeError('the card fell off')\n"
        "        return run()\n"
        "    return once\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # the engines' processes inherit the path
    modules = {"habenula": "failing", "numpy": "rivals.numpy_steps", "breaking": "breaking"}
    tiny = workload.Workload(subjects=16, neurons=4, steps=200)
    ours, numpy, breaking = run.race("case", modules, tiny, sorted(run.cores())[:1], rounds=2)
    assert "no room on the card" in ours["why"]
    assert (numpy["engine"], numpy["ratio"], numpy["equal"]) == ("numpy", 1.0, True)
    assert breaking["why"].startswith("broke off in round 2")
    assert "the card fell off" in breaking["why"]


def test_what_was_measured_is_kept_though_the_case_then_ends(monkeypatch, tmp_path):
    row = dict.fromkeys(rows_of.FIELDS, 1.0) | {"case": "gpu", "engine": "cuda", "unit": "M neuron-steps/s"}

    def case(quick, engines):
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "CASES", {"gpu": case})
    monkeypatch.setattr(sys, "argv", ["run.py", "gpu", "--quiet"])
    monkeypatch.setattr(run.results, "append", lambda rows: kept.extend(rows))
    kept = []
    with pytest.raises(KeyboardInterrupt):
        run.main()
    assert kept == [row]
