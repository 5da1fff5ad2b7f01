"""What is published about the circuit: one table, `evidence.csv`, to print beside what the model gives.

Each row is one figure with its source, the interval within which a simulated figure counts as reproduced, and where
that interval comes from: the source's own range or error where it states one, an assumed tolerance otherwise. Rows of
role `calibrate` may be fitted to; rows of role `check` never are. Species and preparations are never mixed in one fit
(slice rates near 1 Hz, monkey rates near 25 Hz).

>>> next(row for row in load_evidence() if row.id == "ssri.delay").low
14.0
"""

import csv
import functools
import math
from pathlib import Path
from typing import Literal, NamedTuple

EVIDENCE_FILE = Path(__file__).with_name("evidence.csv")
CERTAINTY_GRADES = {
    "F": "read in the paper or its abstract",
    "R": "recalled",
    "D": "derived from figures that were read",
}
EVIDENCE_ROLES = ("calibrate", "check")

KNOWN_CONTRADICTIONS = (
    "Social defeat raises the firing of VTA neurons, chronic mild stress lowers their population activity: "
    "the model simulates the latter.",
    "Whether the tonic rate of LHb neurons rises in depression is disputed.",
    "The sustained effect of ketamine is ascribed to trapping in NMDA receptors of the LHb (Ma 2023) and to routes "
    "that do not need the LHb (Fuchikami 2015; Zhou 2021).",
    "Inactivating the RMTg raises dopamine acutely; lesioning it leaves the rate of dopamine neurons unchanged.",
    "Whether an SSRI acts late: in rodents its effect lags occupancy by two weeks or more (Belujon & Grace 2014; Cao "
    "2010); over 28 trials patients were better than under placebo by the end of the first week (Taylor 2006).",
    "Theta-band activity of the LHb rises in depressed rodents; human habenular oscillations fall with severity.",
    "In raw effort choice people with current depression are not below controls in the largest sample (.784 against "
    ".769): a simulated drop there is a fault. The finding is the slope of the bias on anhedonia (-0.20 logit/s.d.).",
    "With the rates of cloned receptors and constant activity, trapping cannot last a day: the open share must fall "
    "13- to 250-fold after the dose, or a slow state is needed.",
)


class EvidenceRow(NamedTuple):
    """One published figure.

    Attributes:
        id: dotted name.
        quantity: what was measured.
        condition: in whom or what, and under which treatment.
        species: of the subjects.
        value: the figure, in `unit`; None where the source states only a bound or a direction.
        low: least value that reproduces it; None where there is no lower bound.
        high: greatest value that reproduces it; None where there is no upper bound.
        unit: of the three numbers; `1` for shares, ratios and counts.
        source: author and year.
        doi: of the source, where known.
        sure: a key of `CERTAINTY_GRADES`.
        role: `calibrate` or `check`.
        interval: where `low` and `high` come from.
    """

    id: str
    quantity: str
    condition: str
    species: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    source: str
    doi: str
    sure: str
    role: str
    interval: str


@functools.cache
def load_evidence() -> tuple[EvidenceRow, ...]:
    """Every published figure, in the order of the file; read once.

    Raises:
        ValueError: a row is malformed; the message names the line.
    """
    with EVIDENCE_FILE.open(newline="") as file:
        lines = csv.DictReader(file, strict=True)
        if lines.fieldnames != list(EvidenceRow._fields):
            raise ValueError(f"{EVIDENCE_FILE.name} has columns {lines.fieldnames}, not {list(EvidenceRow._fields)}.")
        found: dict[str, EvidenceRow] = {}
        for cells in lines:
            try:
                row = _parse_evidence(cells)
                if row.id in found:
                    raise ValueError(f"{row.id} stands here for the second time")
            except ValueError as error:
                raise ValueError(f"{EVIDENCE_FILE.name}, line {lines.line_num}: {error}.") from error
            found[row.id] = row
    return tuple(found.values())


def compare_with_evidence(row: EvidenceRow, simulated: float | None) -> Literal["inside", "outside", "not modelled"]:
    """Whether a simulated figure, in the row's unit, lies within its interval, ends included.

    >>> row = load_evidence()[0]
    >>> compare_with_evidence(row, row.value), compare_with_evidence(row, float("nan"))
    ('inside', 'not modelled')
    """
    if simulated is None or math.isnan(simulated):
        return "not modelled"
    low, high = _acceptance_interval(row)
    return "inside" if low <= simulated <= high else "outside"


def _parse_evidence(cells: dict[str, str]) -> EvidenceRow:
    texts = {name: text for name, text in cells.items() if name not in ("value", "low", "high")}
    row = EvidenceRow(
        value=_optional_number(cells["value"]),
        low=_optional_number(cells["low"]),
        high=_optional_number(cells["high"]),
        **texts,
    )
    low, high = _acceptance_interval(row)
    if (low, high) == (-math.inf, math.inf) or not low <= (low if row.value is None else row.value) <= high:
        raise ValueError(f"{row.id} has value {row.value} and interval {row.low} to {row.high}")
    if row.sure not in CERTAINTY_GRADES or row.role not in EVIDENCE_ROLES:
        raise ValueError(f"{row.id} is sure {row.sure!r} and has role {row.role!r}")
    if missing := [name for name in ("quantity", "species", "unit", "source", "interval") if not texts[name]]:
        raise ValueError(f"{row.id} lacks {missing}")
    return row


def _optional_number(text: str) -> float | None:
    return float(text) if text else None


def _acceptance_interval(row: EvidenceRow) -> tuple[float, float]:
    return -math.inf if row.low is None else row.low, math.inf if row.high is None else row.high
