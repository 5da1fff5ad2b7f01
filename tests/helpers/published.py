"""The published figures, and an assertion that a simulated one lies in its interval."""

from habenula.circuit.data import evidence

EVIDENCE = {row.id: row for row in evidence.rows()}


def inside(id, value):
    assert evidence.verdict(EVIDENCE[id], float(value)) == "inside", f"{id}: {value}, {EVIDENCE[id]}"
