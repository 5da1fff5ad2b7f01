"""The benchmark's engines do the same work, and one that does not is caught."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

workload = importlib.import_module("workload")
paired = importlib.import_module("paired")
run = importlib.import_module("run")
rivals = importlib.import_module("rivals")
rows_of = importlib.import_module("rows")
scaling = importlib.import_module("scaling")
table = importlib.import_module("table")
timing = importlib.import_module("timing")

# Enough neuron-steps for an error of the mean of about 1 %, in a second or two.
SMALL = workload.Workload(subjects=128, neurons=16, steps=1600, seed=7)
TINY = workload.Workload(subjects=20, neurons=8, steps=301)  # neither whole vectors nor whole blocks
RIVALS = (
    "c",
    "c-tuned",
    "numpy",
    "scan",
    pytest.param("diffrax", marks=pytest.mark.slow),
    "diffrax-tuned",
    "numba",
)  # all that build within seconds; a race checks the others too


def engine(name):
    """The engine's module, or a skip that says why."""
    module = importlib.import_module(rivals.MODULES[name])
    if reason := module.available():
        pytest.skip(f"{name}: {reason}")
    return module


@pytest.fixture(scope="module")
def ours():
    return engine("habenula").prepare(SMALL)()


@pytest.fixture(scope="module")
def ours_exact():
    return engine("habenula").prepare(workload.without_noise(TINY))()


@pytest.mark.parametrize("name", RIVALS)
def test_engines_do_the_same_work(name, ours, ours_exact):
    module = engine(name)
    exact = workload.compare_exact(ours_exact, module.prepare(workload.without_noise(TINY))())
    assert exact.equal, exact.what
    found = module.prepare(SMALL)()
    assert {key: value.shape for key, value in found.items()} == dict.fromkeys(workload.STATISTICS, (SMALL.subjects,))
    noisy = workload.compare(ours, found)
    assert noisy.equal, noisy.what


@pytest.mark.parametrize("name", ["habenula", "c", "c-tuned", "numpy"])
def test_two_cores_find_what_one_does(name):
    module = engine(name)
    one, two = module.prepare(TINY, 1)(), module.prepare(TINY, 2)()
    for key in workload.STATISTICS:  # ours in tiles of another size, in which neurons are summed in another order
        np.testing.assert_allclose(one[key], two[key], rtol=1e-4 if name == "habenula" else 0)


@pytest.mark.parametrize("name", RIVALS)
def test_engines_leave_small_numbers_to_others(name):
    """A library built by -ffast-math may make the processor round subnormal numbers to 0, for all of the process."""
    engine(name).prepare(TINY)()
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_neurons_burst_and_subjects_differ(ours):
    assert ours["output_mean"].max() > 2 * ours["output_mean"].min() > 0
    assert np.all(ours["output_variance"] > 100)  # Hz2: volleys, not a steady rate


def test_a_wrong_step_is_caught(ours_exact, monkeypatch):
    module = engine("numpy")
    monkeypatch.setattr(module, "DT", 1.02 * workload.DT)
    found = module.prepare(workload.without_noise(TINY))()
    assert not workload.compare_exact(ours_exact, found).equal


def test_wrong_noise_is_caught(ours, monkeypatch):
    module = engine("numpy")

    def louder(work):
        numbers = workload.constants(work)
        return numbers._replace(neuron=numbers.neuron | {"noise": np.float32(1.25) * numbers.neuron["noise"]})

    monkeypatch.setattr(module, "constants", louder)
    verdict = workload.compare(ours, module.prepare(SMALL)())
    assert not verdict.equal, verdict.what


def test_the_check_is_made_of_standard_errors_and_shares():
    generator = np.random.default_rng(0)
    base = {name: 50 + generator.standard_normal(400) for name in workload.STATISTICS}
    with_error = lambda shift, sd: {name: x + shift + sd * generator.standard_normal(400) for name, x in base.items()}
    assert workload.compare(base, with_error(0.0, 1.0)).equal
    assert not workload.compare(base, with_error(0.3, 1.0)).equal  # six standard errors, though only 0.6 %
    assert not workload.compare(base, with_error(4.0, 100.0)).equal  # one standard error, though 8 %
    assert not workload.compare(base, with_error(np.nan, 0.0)).equal
    assert workload.compare(base, with_error(1e-4, 0.0)).equal  # rounding
    assert not workload.compare_exact(base, with_error(0.1, 0.0)).equal
    assert not workload.compare_exact(base, with_error(np.nan, 0.0)).equal


@pytest.mark.slow
def test_a_race_names_the_wrong_and_the_missing(tmp_path, monkeypatch):
    (tmp_path / "absent_rival.py").write_text('def available():\n    return "not installed: pip install absent"\n')
    (tmp_path / "wrong_rival.py").write_text(
        "import rivals.numpy_steps as right\n"
        "def available():\n    return None\n"
        "def prepare(workload, cores=1):\n"
        "    run = right.prepare(workload, cores)\n"
        "    return lambda: {name: 1.1 * value for name, value in run().items()}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))  # the engines' processes inherit the path
    modules = {
        "habenula": "rivals.numpy_steps",  # stands in: it needs no compiling
        "numpy": "rivals.numpy_steps",
        "wrong": "wrong_rival",
        "absent": "absent_rival",
    }
    rows = run.race("case", modules, TINY, sorted(run.cores())[:1], rounds=2)
    first, second, wrong, absent = rows
    assert (first["engine"], first["ratio"], first["equal"]) == ("habenula", 1.0, True)
    assert second["equal"] is True
    assert second["low"] <= second["rate"] <= second["high"]
    assert set(second) == set(rows_of.FIELDS)
    assert (wrong["engine"], wrong["missing"]) == ("wrong", False)
    assert "(!)" in wrong["why"]
    assert (absent["missing"], absent["why"]) == (True, "not installed: pip install absent")


def test_the_command_fails_and_names_the_rival(monkeypatch, capsys, tmp_path):
    good = {"case": "case", "engine": "habenula", "missing": False} | dict.fromkeys(rows_of.FIELDS, 1.0)
    good |= {"case": "case", "engine": "habenula", "unit": "M neuron-steps/s", "equal": True}
    bad = {"case": "case", "engine": "c", "missing": False, "why": "output_mean 9 %"}
    gone = {"case": "case", "engine": "numba", "missing": True, "why": "not installed: pip install numba"}
    monkeypatch.setattr(run, "CASES", {"lhb": lambda quick, engines: [good, bad, gone]})
    monkeypatch.setattr(sys, "argv", ["run.py", "lhb", "--no-append", "--json", str(tmp_path / "out.json")])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert "c did not do the same work: output_mean 9 %" in " ".join(said.err.split())
    assert "not installed: pip install numba" in said.out
    written = importlib.import_module("json").loads((tmp_path / "out.json").read_text())
    assert set(written["rows"][0]) == set(rows_of.FIELDS)
    assert written["wrong"] == {"c": "output_mean 9 %"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["speed"], "unknown cases ['speed']; choose from lhb, slow"),
        (["lhb", "--engines", "c,rust"], "unknown engines ['rust']; choose from habenula, c"),
        (["lhb", "--json", "."], "--json . is a folder"),
    ],
)
def test_the_command_refuses(words, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def measured(case, seconds, **more):
    """A row, of 8 million units of work a round."""
    told = {"case": case, "engine": "c", "unit": "M neuron-steps/s"} | more
    return rows_of.row(told, 8e6, timing.Timing(seconds, 1.23, 0.00012, None), 1.0, load=0.31)


def test_a_row_holds_median_and_range():
    row = measured("case", [4.0, 1.0, 2.0], equal=True)
    assert [row[name] for name in ("rate", "low", "high", "load", "equal")] == [4.0, 2.0, 8.0, 0.3, True]
    assert (row["compile_seconds"], row["transfer_seconds"], row["memory_mib"]) == (1.2, 0.0001, "")
    assert set(row) == set(rows_of.FIELDS)


def test_runs_are_timed_by_turns_and_their_memory_is_seen():
    called = []

    def one(mebibytes, name):
        def call(reads):
            called.append(name)
            return np.ones(mebibytes * 2**17) + reads.sum()

        return timing.Run(call, np.zeros(3))

    small, large = timing.paired([one(1, "small"), one(64, "large")], rounds=2)
    assert called == ["small", "small", "large", "large"] + 2 * ["small", "large"]
    assert len(small.seconds) == len(large.seconds) == 2
    if large.memory_mib is not None:  # Linux tells
        # the kernel counts pages in batches, a few hundred KiB late, and a peak may reuse what was just freed
        assert 56 < large.memory_mib < 64 * 3
        assert small.memory_mib < 16


def test_time_in_proportion_is_ratio_1():
    rows = [
        {"work": work, "timing": timing.Timing([seconds])} for work, seconds in ((10, 1.0), (100, 10.0), (100, 5.0))
    ]
    stop = {"engine": "habenula", "missing": True, "why": "memory"}
    assert [row.get("ratio") for row in scaling._over_first([*rows, stop])] == [1.0, 1.0, 2.0, None]


def test_sizes_stop_where_memory_does(monkeypatch):
    grown = timing.Timing([1.0], 0.0, 0.0, 100.0)
    monkeypatch.setattr(scaling, "paired", lambda runs, rounds: [grown])
    monkeypatch.setattr(scaling, "_free", lambda: 2.0**29)
    monkeypatch.setattr("habenula.draw", lambda *a, **b: None)
    first, stopped = scaling.subjects(True, 1)
    assert first["told"]["subjects"] == 100
    assert stopped["missing"] is True
    assert stopped["why"] == "1000 subjects would take some 1.0 GiB, of 0.5 free"


def test_rows_are_appended_and_a_table_shows_the_last(tmp_path):
    path = tmp_path / "results.csv"
    rows_of.append([measured("a", [2.0]), measured("b", [2.0], equal=True)], path)
    rows_of.append([measured("a", [1.0])], path)
    assert len(table.read(path)) == 3
    shown = [line for line in table.render(table.read(path)).splitlines() if line.startswith(("| a", "| b"))]
    assert shown == [
        "| b | c | M neuron-steps/s | 4 | 4 | 4 | 1 | yes | 1.2 |  | 0.3 |",
        "| a | c | M neuron-steps/s | 8 | 8 | 8 | 1 |  | 1.2 |  | 0.3 |",
    ]
    path.write_text("case,engine\n")
    with pytest.raises(ValueError, match=r"columns case, engine: move it away"):
        rows_of.append([measured("a", [1.0])], path)


def test_the_page_of_speed_shows_the_committed_rows():
    page = table.PAGE.read_text()
    assert table.replaced(page, table.render(table.read())) == page, "run: python benchmarks/table.py"


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="once each and in this order"):
        table.replaced(f"{table.END} {table.BEGIN}", "rows")


def test_the_command_line_knows_the_cases():
    from habenula.circuit.study.commands import bench

    assert tuple(run.CASES) == bench.BENCHMARK_CASES
    assert bench.BENCHMARK_SCRIPT == BENCHMARKS / "run.py"


@pytest.mark.parametrize("name", ["c", "c-tuned"])
def test_inner_loops_of_the_c_engines_vectorise(name, tmp_path):
    module, source = importlib.import_module(rivals.MODULES["c-tuned"]), engine(name).SOURCE
    command = ["gcc", *module.FLAGS, "-fopt-info-vec", "-c", "-o", tmp_path / "lhb.o", source]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert told.count("loop vectorized") >= 6, told
    if name == "c":
        assert "_ZGV" in subprocess.run(["nm", tmp_path / "lhb.o"], capture_output=True, text=True, check=True).stdout


def test_the_cuda_kernel_keeps_its_state_in_registers():
    if not shutil.which("nvcc"):
        pytest.skip("cuda: not installed: nvcc, of NVIDIA's CUDA toolkit")
    cuda = importlib.import_module(rivals.MODULES["cuda"])
    taken = cuda.resources(32)
    assert taken["spilled"] == 0
    assert taken["registers"] <= 64  # so that a multiprocessor of Hopper holds 32 warps
    with pytest.raises(ValueError, match="multiple of 32"):
        cuda.build(33, Path("."))


@pytest.mark.gpu
def test_the_cuda_kernel_does_the_same_work(ours, ours_exact):
    module = engine("cuda")
    work = workload.Workload(subjects=128, neurons=32, steps=1600, seed=7)
    reference = engine("habenula")
    for compare, size in ((workload.compare, work), (workload.compare_exact, workload.without_noise(work))):
        verdict = compare(reference.prepare(size)(), module.prepare(size)())
        assert verdict.equal, verdict.what
