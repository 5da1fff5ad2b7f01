"""The benchmark's engines do the same work, and one that does not is caught."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))  # scripts beside the package, not part of it

workload = importlib.import_module("workload")
paired = importlib.import_module("paired")
run = importlib.import_module("run")
rivals = importlib.import_module("rivals")

# Enough neuron-steps for an error of the mean of about 1 %, in a second or two.
SMALL = workload.Workload(subjects=128, neurons=16, steps=1600, seed=7)
TINY = workload.Workload(subjects=20, neurons=8, steps=301)  # neither whole vectors nor whole blocks
INSTALLED = ("c", "numpy", "scan")


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


@pytest.mark.parametrize("name", INSTALLED)
def test_engines_do_the_same_work(name, ours, ours_exact):
    module = engine(name)
    exact = workload.compare_exact(ours_exact, module.prepare(workload.without_noise(TINY))())
    assert exact.equal, exact.what
    found = module.prepare(SMALL)()
    assert {key: value.shape for key, value in found.items()} == dict.fromkeys(workload.STATISTICS, (SMALL.subjects,))
    noisy = workload.compare(ours, found)
    assert noisy.equal, noisy.what


@pytest.mark.parametrize("name", ["habenula", "c", "numpy"])
def test_two_cores_find_what_one_does(name):
    module = engine(name)
    one, two = module.prepare(TINY, 1)(), module.prepare(TINY, 2)()
    for key in workload.STATISTICS:  # ours in tiles of another size, in which neurons are summed in another order
        np.testing.assert_allclose(one[key], two[key], rtol=1e-4 if name == "habenula" else 0)


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
    assert set(second) | {"commit", "date"} == set(run.FIELDS)  # those two are the whole table's
    assert (wrong["engine"], wrong["missing"]) == ("wrong", False)
    assert "(!)" in wrong["why"]
    assert (absent["missing"], absent["why"]) == (True, "not installed: pip install absent")


def test_the_command_fails_and_names_the_rival(monkeypatch, capsys, tmp_path):
    good = {"case": "case", "engine": "habenula", "missing": False} | dict.fromkeys(run.FIELDS, 1.0)
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
    assert set(written["rows"][0]) == set(run.FIELDS)
    assert written["wrong"] == {"c": "output_mean 9 %"}


def test_inner_loops_of_the_c_engine_vectorise(tmp_path):
    module = engine("c")
    command = ["gcc", *module.FLAGS, "-fopt-info-vec", "-c", "-o", tmp_path / "lhb.o", module.SOURCE]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert told.count("loop vectorized") >= 6, told


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
