"""The published figures are complete, and the verdict on a simulated one is right."""

import math

import pytest

from habenula.circuit.data import evidence


def test_the_table_names_every_part_of_the_circuit():
    sections = {row.id.partition(".")[0] for row in evidence.load_evidence()}
    assert sections >= {"lhb", "da", "dat", "sert", "ket", "effort", "vta", "ltp", "ltd", "ssri", "stim", "spiral"}
    assert sum(row.id.startswith("effort.base.") for row in evidence.load_evidence()) == 16
    assert {row.role for row in evidence.load_evidence()} == set(evidence.EVIDENCE_ROLES)


@pytest.mark.parametrize("row", evidence.load_evidence(), ids=lambda row: row.id)
def test_verdicts(row):
    assert evidence.compare_with_evidence(row, None) == evidence.compare_with_evidence(row, math.nan) == "not modelled"
    for bound, beyond in ((row.low, -1.0), (row.high, 1.0)):
        if bound is not None:
            assert evidence.compare_with_evidence(row, bound) == "inside"
            assert evidence.compare_with_evidence(row, bound + 1e-9 * beyond * max(1.0, abs(bound))) == "outside"
    if row.value is not None:
        assert evidence.compare_with_evidence(row, row.value) == "inside"


def test_a_reversed_interval_is_refused(tmp_path, monkeypatch):
    lines = evidence.EVIDENCE_FILE.read_text().splitlines()
    broken = lines[1].replace(",-51,-45,", ",-45,-51,")
    path = tmp_path / "evidence.csv"
    path.write_text("\n".join([lines[0], broken]) + "\n")
    monkeypatch.setattr(evidence, "EVIDENCE_FILE", path)
    evidence.load_evidence.cache_clear()
    with pytest.raises(ValueError, match=r"line 2: lhb.rmp has value -48.0 and interval -45.0 to -51.0"):
        evidence.load_evidence()
    evidence.load_evidence.cache_clear()
