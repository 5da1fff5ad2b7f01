"""The probe measures what the planner reads, and the table says what it found."""

import pytest

from habenula.circuit.simulation import hardware
from habenula.circuit.study.commands import explain
from habenula.circuit.study.runtime import probe


@pytest.mark.nightly
def test_what_is_measured_is_kept_and_read(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "rates_file", lambda: tmp_path / "rates.json")
    found = probe.measure_rates()
    assert found.measured
    assert found.quiet > found.treated > 1e4, "ketamine is followed within the hour"
    assert found.neurons > 1e6
    assert 0 <= found.launch < 1e-2
    assert 0 <= found.begin < 10
    assert hardware.detect_machine().rates["cpu"] == found
    (tmp_path / "rates.json").write_text("{")
    assert hardware.detect_machine().rates["cpu"] != found


def test_rates_of_other_devices_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "rates_file", lambda: tmp_path / "rates.json")
    one, other = (hardware.DeviceRates(*[float(n)] * 6, measured=True) for n in (1, 2))
    probe._store_rates("one", one)
    probe._store_rates("other", other)
    assert hardware.read_rates(tmp_path / "rates.json") == {"one": one, "other": other}


@pytest.mark.parametrize("text", ["{", "[]", '{"old": {"quick": 1}, "odd": 1}'])
def test_a_damaged_file_is_mended(monkeypatch, tmp_path, text):
    monkeypatch.setattr(hardware, "rates_file", lambda: tmp_path / "rates.json")
    (tmp_path / "rates.json").write_text(text)
    one = hardware.DeviceRates(*[1.0] * 6, measured=True)
    probe._store_rates("one", one)
    assert hardware.read_rates(tmp_path / "rates.json") == {"one": one}


def test_a_trial_is_explained_without_being_run():
    stages = explain.trial_stages(1_000_000, 12, None, 2)
    assert [stage.times for stage in stages] == [2, 7, 5]
    assert sum(stage.times for stage in stages[1:]) == 12, "eleven arms and the healthy one"
    assert stages[2].forecast.seconds > stages[1].forecast.seconds
    assert max(stage.forecast.total for stage in stages) < 4 * 2**30
    text = "\n".join(line.plain for line in explain.stage_table(stages, 120))
    for expected in ("draw the cohorts", "tiled", "GiB", "to compile", "pieces of"):
        assert expected in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_without_ketamine_there_is_one_kind_of_arm():
    stages = explain.trial_stages(64, 4, ["ssri"], 2)
    assert [stage.times for stage in stages] == [2, 3]


def test_a_moment_is_explained_without_being_run():
    text = "\n".join(line.plain for line in explain.stage_table(explain.moment_stages(2.0), 120))
    assert "2 s of membrane currents" in text
    assert "1 take as long as 16" in text
