"""Fits the constants of `habenula.circuit.model.pharmacology` to the published figures and writes them to the table.

    python -m habenula.circuit.calibration.pharmacology --data FOLDER

`FOLDER` holds the digitised plasma curves of Kamp 2020 (`kamp2020_concentrations.csv`, `kamp2020_regimen.csv`). Without
it ketamine's disposition stays as it is, and everything else is fitted again. Needs scipy. Units as in `pharmacology`.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares, root_scalar

from ..data import constants, evidence
from ..data.constants import Constant
from ..model.pharmacokinetics import Disposition, disposition_phases, two_compartment_concentration
from ..model.pharmacology import OccupancyCurve, transporter_occupancy
from ..model.trapping_block import ChannelBlock, steady_block_and_rate
from .options import make_parser, require_files

SCRIPT = "habenula.circuit.calibration.pharmacology"
MOLAR_MASS = 237.7  # mg/mmol, ketamine base
SECONDS_PER_HOUR = 3600.0  # per hour

DISPOSITION_UNITS = {"central_volume": "L/kg", "clearance": "L/h/kg", "peripheral_volume": "L/kg", "exchange": "L/h/kg"}


class PlasmaCurve(NamedTuple):
    """One digitised plasma curve of one enantiomer, and the infusions that gave it.

    Attributes:
        times: h, shape (sample,).
        concentrations: uM, shape (sample,).
        starts: h, shape (infusion,).
        durations: h, shape (infusion,).
        amounts: umol/kg of this enantiomer, shape (infusion,).
    """

    times: np.ndarray
    concentrations: np.ndarray
    starts: np.ndarray
    durations: np.ndarray
    amounts: np.ndarray


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, write the table, and print each fitted figure beside the published one."""
    parser = make_parser(SCRIPT, main.__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="digitised curves of Kamp 2020")
    chosen = parser.parse_args(arguments)
    folder = chosen.data
    if folder is not None:
        require_files(folder, ("kamp2020_concentrations.csv", "kamp2020_regimen.csv"), "plasma curves of Kamp 2020")
    with jax.enable_x64(True):
        kinetics = [] if folder is None else [*fit_ketamine("s", folder), *fit_ketamine("r", folder)]
        fitted = [
            *published_constants(),
            *kinetics,
            *fit_block(),
            *fit_methylphenidate(),
            *fit_bupropion(),
            *fit_ssri(),
        ]
    if folder is None:
        print("no --data: the disposition of ketamine stays as it is")
    constants.update_constants(fitted, chosen.table)
    for constant in fitted:
        print(f"{constant.name:42} {constant.value:10.5g} {constant.unit:8} {constant.status:10} {constant.note}")


def read_curves(folder: Path, enantiomer: str) -> list[PlasmaCurve]:
    """The curves of one enantiomer, `s` or `r`: S-ketamine was measured under two formulations."""
    with (folder / "kamp2020_concentrations.csv").open(newline="") as file:
        samples = [row for row in csv.DictReader(file) if row["species"] == f"{enantiomer.upper()}-ketamine"]
    with (folder / "kamp2020_regimen.csv").open(newline="") as file:
        infusions = list(csv.DictReader(file))
    curves = []
    for formulation in sorted({row["formulation"] for row in samples}):
        # Before the infusion the curves show the digitisation's floor, not ketamine.
        mine = [row for row in samples if row["formulation"] == formulation and float(row["time_h"]) > 0]
        given = [row for row in infusions if row["formulation"] == formulation]
        starts = np.array([float(row["t_start_h"]) for row in given])
        durations = np.array([float(row["t_end_h"]) for row in given]) - starts
        share = 0.5 if formulation == "racemic" else 1.0
        rates = share * 1e3 / MOLAR_MASS * np.array([float(row["rate_mg_per_kg_h"]) for row in given])
        times = np.array([float(row["time_h"]) for row in mine])
        concentrations = np.array([float(row["conc_nmol_per_mL"]) for row in mine])  # nmol/mL is uM
        curves.append(PlasmaCurve(times, concentrations, starts, durations, rates * durations))
    return curves


def predict_plasma(body: Disposition, curve: PlasmaCurve) -> jax.Array:
    """Concentration (uM) that a disposition predicts at the samples of a curve, shape (sample,)."""

    def at(time):
        each = two_compartment_concentration(time, curve.starts, curve.durations, body)
        return jnp.sum(curve.amounts * each)

    return jax.vmap(at)(jnp.asarray(curve.times))


def terminal_half_life(body: Disposition) -> jax.Array:
    """Terminal half-life (h) of a disposition."""
    _, (slow, _) = disposition_phases(body)
    return jnp.log(2.0) / slow


def fit_ketamine(enantiomer: str, folder: Path) -> list[Constant]:
    """Disposition of one enantiomer, from its plasma curves and the terminal half-life.

    Residuals: concentrations over an assumed error of 10 % + 0.02 uM, and the log of the half-life over 0.1.
    """
    curves = read_curves(folder, enantiomer)
    seen = np.concatenate([curve.concentrations for curve in curves])
    expected_half_life = _published_value("ket.halflife")

    def predict(body):
        return jnp.concatenate([predict_plasma(body, curve) for curve in curves])

    def residuals(logs):
        body = Disposition(*jnp.exp(logs))
        misses = (predict(body) - seen) / (0.02 + 0.1 * seen)
        return jnp.append(misses, jnp.log(terminal_half_life(body) / expected_half_life) / 0.1)

    body = Disposition(*jnp.exp(_solve_least_squares(residuals, np.log([0.4, 1.2, 3.0, 2.0]))))
    missed = np.asarray(predict(body)) - seen
    explained = 1.0 - np.sum(missed**2) / np.sum((seen - seen.mean()) ** 2)
    median = np.median(abs(missed) / seen)
    note = f"Kamp 2020: R2 {explained:.3f}; median error {median:.0%}; half-life {terminal_half_life(body):.2f} h"
    return [
        Constant(f"ketamine.{enantiomer}.{name}", float(getattr(body, name)), unit, "fitted", SCRIPT, note)
        for name, unit in DISPOSITION_UNITS.items()
    ]


def fit_block() -> list[Constant]:
    """Off rate, half-concentration and Hill coefficient of the channel block; the on rate at 1 uM follows from them.

    Each of Gilling's four figures is weighted by its own stated error: the kinetic and the equilibrium figures disagree
    two-fold (koff/kon 1.5 uM, IC50 0.71 uM), and the fit settles between them.
    """
    values, errors = _published_values_and_errors(*(f"ket.block.{name}" for name in ("kon", "koff", "ic50", "hill")))

    def figures(logs):
        off_rate, half_concentration, hill = jnp.exp(logs)
        block = ChannelBlock(off_rate, half_concentration, hill, jnp.asarray(1.0), jnp.asarray(0.0))
        steady, rate = steady_block_and_rate(jnp.asarray(1.0), jnp.asarray(1.0), block)
        return jnp.stack([steady * rate, off_rate, half_concentration, hill])

    def residuals(logs):
        return (figures(logs) - values) / errors

    logs = _solve_least_squares(residuals, np.log([0.2, 0.7, 0.84]))
    on_rate, off_rate, half_concentration, hill = (float(figure) for figure in figures(logs))
    note = f"Gilling 2009; on rate {on_rate:.3f} /s at 1 uM"
    return [
        Constant("ketamine_block.off_rate", off_rate * SECONDS_PER_HOUR, "1/h", "fitted", SCRIPT, note),
        Constant("ketamine_block.half_concentration", half_concentration, "uM", "fitted", SCRIPT, note),
        Constant("ketamine_block.hill", hill, "1", "fitted", SCRIPT, note),
        Constant("ketamine_block.trapping", 1.0, "1", "published", "Gilling 2009", "fully trapped"),
    ]


def fit_methylphenidate() -> list[Constant]:
    """Absorption from the time of the peak; occupancy from five doses, weighted by their published errors."""
    eliminated, peak = math.log(2.0) / 2.5, 2.0
    mismatch = lambda absorbed: math.log(absorbed / eliminated) / (absorbed - eliminated) - peak
    absorbed = root_scalar(mismatch, bracket=(1.01 * eliminated, 20.0)).root
    doses = jnp.asarray([5.0, 10.0, 20.0, 40.0, 60.0])
    values, errors = _published_values_and_errors(*(f"dat.mph.{dose:.0f}" for dose in doses))

    def residuals(logs):
        return (transporter_occupancy(doses, OccupancyCurve(*jnp.exp(logs))) - values) / errors

    site = OccupancyCurve(*jnp.exp(_solve_least_squares(residuals, np.log([0.75, 10.0, 1.5]))))
    shares = ", ".join(f"{share:.2f}" for share in transporter_occupancy(doses, site))
    recalled = "peak about 2 h, half-life about 2.5 h"
    return [
        Constant("methylphenidate.absorption_rate", absorbed, "1/h", "assumed", "recalled", recalled),
        Constant("methylphenidate.elimination_rate", eliminated, "1/h", "assumed", "recalled", recalled),
        Constant(
            "methylphenidate.release", 0.25, "h", "assumed", SCRIPT, "disintegration of an immediate-release tablet"
        ),
        *_occupancy_constants(
            "methylphenidate", site, "mg", "fitted", f"Volkow 1998; {shares} at 5, 10, 20, 40, 60 mg"
        ),
    ]


def fit_bupropion() -> list[Constant]:
    """A plateau at the higher of the two PET figures, and 300 mg/day at the middle between them (an assumption)."""
    plateau = _published_value("dat.bup.2003")
    middle = (_published_value("dat.bup.2002") + plateau) / 2.0
    site = OccupancyCurve(jnp.asarray(plateau), jnp.asarray(300.0 * (plateau / middle - 1.0)), jnp.asarray(1.0))
    note = "Meyer 2002 and Learned-Coughlin 2003 taken to bracket 300 mg/day below a plateau"
    half_life = "half-life about 21 h"
    return [
        Constant("bupropion.elimination_rate", math.log(2.0) / 21.0, "1/h", "assumed", "recalled", half_life),
        *_occupancy_constants("bupropion", site, "mg/day", "assumed", note),
    ]


def fit_ssri() -> list[Constant]:
    """A Michaelis curve through the plateau and through the minimum therapeutic dose, 10 mg/day of escitalopram."""
    plateau = _published_value("sert.plateau")
    half = 10.0 * (plateau / _published_value("sert.minimum") - 1.0)
    site = OccupancyCurve(jnp.asarray(plateau), jnp.asarray(half), jnp.asarray(1.0))
    half_life = "half-life of escitalopram about 30 h"
    return [
        Constant("ssri.elimination_rate", math.log(2.0) / 30.0, "1/h", "assumed", "recalled", half_life),
        *_occupancy_constants(
            "ssri", site, "mg/day", "fitted", "Meyer 2004, Sorensen 2021; 10 mg/day as the minimum dose"
        ),
    ]


def published_constants() -> list[Constant]:
    """What is taken over as published."""
    return [
        Constant("ketamine.molar_mass", MOLAR_MASS, "mg/mmol", "published", "formula C13H16ClNO", "free base"),
        Constant("ketamine.infusion", 40.0 / 60.0, "h", "published", "Zarate 2006", "usual duration of 0.5 mg/kg"),
    ]


def _occupancy_constants(drug: str, site: OccupancyCurve, unit: str, status: str, note: str) -> list[Constant]:
    units = {"maximum": "1", "half": unit, "hill": "1"}
    numbers = {name: float(getattr(site, name)) for name in units}
    return [Constant(f"{drug}.occupancy.{name}", numbers[name], units[name], status, SCRIPT, note) for name in units]


def _solve_least_squares(residuals, start: np.ndarray) -> jax.Array:
    """The point of least squares from `start`, by Levenberg-Marquardt."""
    found = least_squares(jax.jit(residuals), start, method="lm")
    if not found.success:
        raise RuntimeError(f"the fit did not converge: {found.message}")
    return jnp.asarray(found.x)


def _published_values_and_errors(*ids: str) -> tuple[np.ndarray, np.ndarray]:
    """Published values, and their errors where the intervals are two errors to each side."""
    rows = {row.id: row for row in evidence.load_evidence()}
    value, low, high = (np.array([getattr(rows[id], bound) for id in ids]) for bound in ("value", "low", "high"))
    return value, (high - low) / 4.0


def _published_value(id: str) -> float:
    return _published_values_and_errors(id)[0].item()


if __name__ == "__main__":
    main()
