"""Evidence on drugs: what each dose gives in plasma, at transporters and at NMDA channels, taken as it was measured."""

import jax.numpy as jnp
import numpy as np

from ...model import dopamine as da
from ...model import pharmacology as drugs
from ...model import trapping_block
from .cohorts import ExperimentCohorts, Figures

SAMPLING_HOURS = 0.01  # h, over which one sample of blood or one scan is a mean
HOURS_PER_MINUTE = 1 / 60  # h
TABLET_DOSES = (5.0, 10.0, 20.0, 40.0, 60.0)  # mg, Volkow 1998
DOSING_WEEKS = 4  # of daily dosing before a scan
BUPROPION, SSRI_MINIMUM, SSRI_HIGH = 300.0, 10.0, 40.0  # mg/day: clinical, least effective, and the most that is given
KAMP_DOSES = (0.28, 0.57, 1.14)  # mg/kg, each infused over an hour, one after the other
SAMPLING_TIMES = {"peak": 3.0, "5h": 5.0}  # h after the first infusion began
TERMINAL_PHASE = (8.0, 14.0)  # h, between which the half-life is read
CONCENTRATION_BRACKET = (0.3, 3.0)  # uM, either side of half block
OPEN_SHARE = 1.0  # share of the time that a channel under the patch electrode is open to the drug
SECONDS_PER_HOUR = 3600.0  # per hour


def measure_transporters(lab: ExperimentCohorts) -> Figures:
    """Rows `da.uptake`, `dat`, `sert`: uptake; occupancy of one tablet at its peak, and after weeks of daily dosing."""
    transporter, tablet = da.dopamine_constants(), drugs.methylphenidate_constants()
    times = jnp.arange(0.0, 8.0, HOURS_PER_MINUTE)
    zero = jnp.zeros((1, len(TABLET_DOSES)))
    doses, stop = jnp.asarray([TABLET_DOSES]), zero + drugs.HOURS_PER_DAY
    concentration = drugs.tablet_concentration(times, HOURS_PER_MINUTE, doses, zero, zero, stop, tablet)
    peak = drugs.transporter_occupancy(concentration, tablet.occupancy).max(axis=0)
    bupropion = _steady_occupancy(BUPROPION, drugs.bupropion_constants())
    return {
        "da.uptake.km": float(transporter.uptake_half),
        "da.uptake.vmax": float(transporter.uptake_maximum),
        **{f"dat.mph.{mg:.0f}": float(share) for mg, share in zip(TABLET_DOSES, peak, strict=True)},
        "dat.bup.2002": bupropion,
        "dat.bup.2003": bupropion,
        "sert.minimum": _steady_occupancy(SSRI_MINIMUM, drugs.ssri_constants()),
        "sert.plateau": _steady_occupancy(SSRI_HIGH, drugs.ssri_constants()),
    }


def measure_ketamine_in_plasma(lab: ExperimentCohorts) -> Figures:
    """Rows `ket.pk` and `ket.halflife`: three escalating infusions of the racemate, each enantiomer sampled.

    The half-life is that of both together, 5 to 11 h after the end. Ketamine in mice is not modelled.
    """
    sampled = jnp.asarray([*SAMPLING_TIMES.values(), *TERMINAL_PHASE]) - SAMPLING_HOURS
    starts = jnp.arange(float(len(KAMP_DOSES)))
    half = 0.5 * jnp.asarray(KAMP_DOSES)  # mg/kg of one enantiomer

    def infuse(s_share: float) -> np.ndarray:
        ends = jnp.stack(
            [sampled, sampled + SAMPLING_HOURS], axis=1
        ).ravel()  # of samples, and of what lies between them
        return np.asarray(
            drugs.ketamine_concentration(
                ends, half, starts, jnp.ones_like(starts), drugs.ketamine_constants(), s_share=s_share
            )
        )[::2]

    plasma = {"s": infuse(1.0), "r": infuse(0.0)}
    early, late = (plasma["s"] + plasma["r"])[-2:]
    rows = {
        f"ket.pk.{enantiomer}.{name}": float(curve[i])
        for enantiomer, curve in plasma.items()
        for i, name in enumerate(SAMPLING_TIMES)
    }
    return rows | {"ket.halflife": float((TERMINAL_PHASE[1] - TERMINAL_PHASE[0]) * np.log(2) / np.log(early / late))}


def measure_channel_block(lab: ExperimentCohorts) -> Figures:
    """Rows `ket.block`: ketamine washed on and off channels that stay open.

    On rate at 1 uM and off rate from the approach to the steady block; half-concentration and Hill coefficient from the
    line through the log odds of the steady block at 0.3 and 3 uM.
    """
    block = trapping_block.ketamine_block_constants()
    concentration = jnp.asarray([0.0, 1.0, *CONCENTRATION_BRACKET])
    steady, rate = (
        np.asarray(value)
        for value in trapping_block.steady_block_and_rate(concentration, jnp.full(4, OPEN_SHARE), block)
    )
    odds = np.log(steady[2:] / (1 - steady[2:]))
    hill = (odds[1] - odds[0]) / np.log(CONCENTRATION_BRACKET[1] / CONCENTRATION_BRACKET[0])
    return {
        "ket.block.kon": float(steady[1] * rate[1] / SECONDS_PER_HOUR),
        "ket.block.koff": float(rate[0] / SECONDS_PER_HOUR),
        "ket.block.ic50": float(CONCENTRATION_BRACKET[0] * np.exp(-odds[0] / hill)),
        "ket.block.hill": float(hill),
    }


def _steady_occupancy(mg: float, drug: drugs.DailyDrug) -> float:
    """Occupancy at the end of weeks on `mg` a day."""
    end = DOSING_WEEKS * 7 * drugs.HOURS_PER_DAY
    begin = jnp.zeros(1)
    level = drugs.daily_concentration(
        jnp.asarray([end - SAMPLING_HOURS]), SAMPLING_HOURS, jnp.asarray([mg]), begin, begin + end, drug
    )
    return float(drugs.transporter_occupancy(level, drug.occupancy)[0])
