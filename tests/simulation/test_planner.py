"""The planner: counts that follow the run, the faster platform, pieces where all does not fit, and rates that are kept."""

import dataclasses
import json

import jax
import pytest

from habenula.circuit.model.interventions import Bupropion, Ketamine
from habenula.circuit.model.lhb_population import make_population_plan
from habenula.circuit.simulation import hardware, planner
from habenula.circuit.simulation.hardware import ASSUMED_RATES, DeviceRates, Machine
from habenula.circuit.simulation.planner import forecast
from habenula.kernels import Plan

GIB = 2**30
CPU = Machine({"cpu": 2}, {"cpu": ASSUMED_RATES["cpu"]}, {"cpu": 16 * GIB})
BOTH = Machine({"gpu": 1, "cpu": 1}, ASSUMED_RATES, {"gpu": 80 * GIB, "cpu": 16 * GIB})


def test_few_subjects_are_never_sent_to_a_gpu_that_is_slower():
    few, many = (forecast(subjects, days=84.0, machine=BOTH) for subjects in (50, 200_000))
    assert few.platform == "cpu"
    assert few.plan.backend == "tiled"
    assert "CPU" in few.why[0]
    assert "against" in few.why[0]
    assert many.platform == "gpu"
    assert many.plan.backend == "scan"
    slow = dataclasses.replace(ASSUMED_RATES["cpu"], quiet=1e3)
    assert (
        forecast(50, days=84.0, machine=dataclasses.replace(BOTH, rates={**ASSUMED_RATES, "cpu": slow})).platform
        == "gpu"
    )


@pytest.mark.parametrize("subjects", [16384, 131072])
def test_time_is_work_over_rate(subjects):
    found = forecast(subjects, days=28.0, machine=CPU)
    work = subjects * 28 * 24
    assert found.seconds == pytest.approx(work / ASSUMED_RATES["cpu"].quiet / 2, rel=0.15)
    assert forecast(2 * subjects, days=28.0, machine=CPU).seconds == pytest.approx(2 * found.seconds, rel=0.05)
    assert forecast(subjects, days=28.0, arm=Bupropion(300.0), machine=CPU).seconds == found.seconds
    assert forecast(subjects, days=28.0, arm=Ketamine(0.5, 0.0), machine=CPU).seconds > 2 * found.seconds
    gradient = forecast(subjects, days=28.0, gradient=True, machine=CPU)
    assert gradient.seconds > 2 * found.seconds
    assert gradient.total > found.total
    fast = forecast(subjects, seconds=2.0, neurons=64, machine=CPU)
    assert fast.seconds == pytest.approx(subjects * 64 * 12_000 / ASSUMED_RATES["cpu"].neurons / 2, rel=0.15)


def test_a_device_without_work_is_not_used():
    assert forecast(10, days=28.0, machine=CPU).plan.devices == 1
    assert forecast(1024, days=28.0, machine=CPU).plan.devices == 2
    assert forecast(1024, days=28.0, devices=1, machine=CPU).plan.devices == 1
    assert forecast(1024, seconds=1.0, neurons=128, machine=CPU).plan.tile == make_population_plan(128).tile


def test_records_are_what_grows_with_time():
    size = lambda **options: forecast(64, machine=CPU, **options).total
    assert size(seconds=60.0, quantities=0) == size(seconds=1.0, quantities=0)
    assert size(seconds=60.0) > size(seconds=1.0)
    assert size(days=84.0, save_every=4) > size(days=84.0, save_every=24)
    assert forecast(8192, days=84.0, machine=CPU).memory["records"] == pytest.approx(
        2 * forecast(4096, days=84.0, machine=CPU).memory["records"], rel=0.01
    )


def test_what_does_not_fit_lives_in_pieces():
    small = dataclasses.replace(CPU, memory={"cpu": 2 * GIB})
    found = forecast(1_000_000, days=84.0, machine=small)
    assert found.chunk < 1_000_000
    assert found.chunk % (found.plan.tile * found.plan.devices) == 0
    arrays = found.total - found.memory["program"]
    assert 0.8 * GIB < arrays <= GIB, "half of what is free, and not much less"
    assert any(f"{found.chunk:,} subjects" in sentence for sentence in found.why)
    assert forecast(1000, days=84.0, machine=small).chunk == 1000
    assert forecast(1_000_000, days=84.0, memory=GIB // 2, machine=small).chunk < 0.6 * found.chunk
    assert 1000 < planner.chunk_length(Plan(), 84.0, 10, 4) < 100_000


def test_what_is_given_is_forecast():
    given = Plan("scan")
    found = forecast(100, days=7.0, given=given, machine=CPU)
    assert found.plan == given
    assert "plain loop" in " ".join(found.why)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give the one or the other"),
        ({"days": 1.0, "seconds": 1.0}, "give the one or the other"),
        ({"days": 0.0}, "length=0.0 must be above 0"),
        ({"days": float("nan")}, "length=nan"),
        ({"days": 1.0, "save_every": 0}, "save_every=0"),
        ({"days": 1.0, "quantities": -1}, "quantities=-1"),
        ({"days": 1.0, "devices": 0}, "devices=0"),
    ],
)
def test_impossible_runs_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        forecast(10, machine=CPU, **options)


def test_rates_are_assumed_until_they_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "rates_file", lambda: tmp_path / "rates.json")
    assert not forecast(10, days=1.0).measured
    rates = DeviceRates(1e7, 2e6, 3e8, 1e-6, 0.01, 10.0, measured=True)
    numbers = {name: value for name, value in dataclasses.asdict(rates).items() if name != "measured"}
    (tmp_path / "rates.json").write_text(json.dumps({hardware.hardware_key("cpu"): numbers, "another": numbers}))
    assert hardware.detect_machine().rates["cpu"] == rates
    assert forecast(10, days=1.0).measured
    monkeypatch.setattr(hardware, "version", lambda package: "other")  # versions make machine code, and so speed
    assert not forecast(10, days=1.0).measured


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": {"quick": 1}}'])
def test_a_damaged_file_of_rates_counts_as_none(monkeypatch, tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    monkeypatch.setattr(hardware, "rates_file", lambda: tmp_path / "rates.json")
    assert hardware.detect_machine().rates["cpu"] == ASSUMED_RATES["cpu"]


def test_this_machine():
    machine = hardware.detect_machine()
    assert machine.devices == {"cpu": jax.device_count()}
    assert machine.memory["cpu"] > 2**28
