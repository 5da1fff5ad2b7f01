"""The published figures, and an assertion that a simulated one lies in its interval."""

from habenula.circuit.data import evidence

EVIDENCE = {row.id: row for row in evidence.load_evidence()}


def inside(id, value):
    assert evidence.compare_with_evidence(EVIDENCE[id], float(value)) == "inside", f"{id}: {value}, {EVIDENCE[id]}"
