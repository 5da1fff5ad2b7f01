"""From dose to concentration to occupancy: ketamine, dopamine and serotonin reuptake blockers.

Concentrations are means over each step of the slow clock, exact for the linear kinetics of `pharmacokinetics`, and
differentiable in the amount, the time and the rates.

Units: h, mg, mg/kg, uM; times in hours from the beginning of the course. Functions are elementwise over lanes (`*lane`,
usually subjects); doses lie along the leading axis and are summed one at a time, so memory does not grow with their
number. Constants: `circuit/data/constants.csv`, fitted by
`habenula.circuit.calibration.pharmacology`.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import constants
from .pharmacokinetics import (
    Disposition,
    LaneArrayLike,
    bateman_concentration,
    cumulative_input_and_content,
    disposition_phases,
    mean_content,
    sum_over_doses,
    unit_rate_content,
)

HOURS_PER_DAY = 24.0  # h
MAX_ACTIVE_TABLETS = 4  # tablets of one clock time that still count: after three days a half-life of 6 h leaves 2e-4
MIN_CONCENTRATION_RATIO = 1e-3  # concentration over half-concentration below which a Hill curve is a straight line


class KetamineKinetics(eqx.Module):
    """Ketamine in plasma: each enantiomer has its own disposition.

    Attributes:
        s: disposition of S-ketamine.
        r: disposition of R-ketamine.
        molar_mass: mg/mmol, of the free base.
    """

    s: Disposition
    r: Disposition
    molar_mass: Float[Array, ""]


class OccupancyCurve(eqx.Module):
    """Share of a transporter that a drug occupies, as a function of its concentration.

    Attributes:
        maximum: share at saturating concentration, 0 to 1.
        half: concentration that gives half the maximum, in the unit of the drug's concentration.
        hill: Hill coefficient.
    """

    maximum: Float[Array, "..."]
    half: Float[Array, "..."]
    hill: Float[Array, "..."]


class TabletDrug(eqx.Module):
    """A drug of short half-life, taken as tablets; the concentration is in mg, as that of the tablet which peaks there.

    Attributes:
        absorption_rate: 1/h. ka, gut to plasma; must differ from the elimination rate.
        elimination_rate: 1/h. ke.
        release: h. Time over which a tablet releases its content into the gut.
        occupancy: of the transporter, with `half` in mg.
    """

    absorption_rate: Float[Array, "..."]
    elimination_rate: Float[Array, "..."]
    release: Float[Array, "..."]
    occupancy: OccupancyCurve


class DailyDrug(eqx.Module):
    """A drug of long half-life, taken daily; the concentration is in mg/day, as that of the dose which is steady there.

    Attributes:
        elimination_rate: 1/h.
        occupancy: of the transporter, with `half` in mg/day.
    """

    elimination_rate: Float[Array, "..."]
    occupancy: OccupancyCurve


def ketamine_constants() -> KetamineKinetics:
    """Ketamine in people, from the package's table of constants."""
    molar_mass = jnp.asarray(constants.constant_value("ketamine.molar_mass"), jnp.result_type(float))
    return KetamineKinetics(
        Disposition(**constants.section_arrays("ketamine.s")),
        Disposition(**constants.section_arrays("ketamine.r")),
        molar_mass,
    )


def methylphenidate_constants() -> TabletDrug:
    """Oral methylphenidate at the dopamine transporter, from the package's table of constants."""
    return TabletDrug(
        **constants.section_arrays("methylphenidate"),
        occupancy=OccupancyCurve(**constants.section_arrays("methylphenidate.occupancy")),
    )


def bupropion_constants() -> DailyDrug:
    """Bupropion at the dopamine transporter, from the package's table of constants."""
    return DailyDrug(
        **constants.section_arrays("bupropion"),
        occupancy=OccupancyCurve(**constants.section_arrays("bupropion.occupancy")),
    )


def ssri_constants() -> DailyDrug:
    """An SSRI dosed like escitalopram at the serotonin transporter, from the package's table of constants."""
    return DailyDrug(
        **constants.section_arrays("ssri"), occupancy=OccupancyCurve(**constants.section_arrays("ssri.occupancy"))
    )


def ketamine_concentration(
    ends: Float[Array, " end"],
    doses: Float[Array, "dose *#lane"],
    starts: Float[Array, "dose *#lane"],
    durations: Float[Array, "dose *#lane"],
    kinetics: KetamineKinetics,
    *,
    clearance_factor: LaneArrayLike = 1.0,
    s_share: LaneArrayLike = 0.5,
) -> Float[Array, "step *lane"]:
    """Ketamine in plasma (S and R together, uM), mean from each of `ends` to the next.

    What all doses together have left in the compartments is summed at the ends of steps, and averaged then: that takes a third
    of the exponentials that an average for each dose would.

    Args:
        ends: h. Where steps end, the beginning of the first before them: one more than there are steps.
        doses: mg/kg, each infused at a constant rate.
        starts: h. When each infusion begins.
        durations: h. How long each infusion lasts; positive.
        kinetics: constants, from `ketamine_constants()`.
        clearance_factor: clearance of the subject over that of the typical one, both enantiomers.
        s_share: share of S-ketamine in the dose: 0.5 for racemic ketamine, 1 for esketamine.
    """
    parts = [
        (rate, weight * share)
        for body, share in ((kinetics.s, s_share), (kinetics.r, 1.0 - s_share))
        for rate, weight in disposition_phases(body, clearance_factor)
    ]

    def curve(t, dose, start, duration):
        speed = 1e3 * dose / kinetics.molar_mass / duration  # umol/kg/h
        fed, contents = zip(*(cumulative_input_and_content(t, start, duration, rate) for rate, _ in parts), strict=True)
        return speed * fed[0], [speed * content for content in contents]

    def mean(dt, fed, changes):
        phases_of = zip(parts, changes, strict=True)
        each = [weight * mean_content(fed, change, rate, dt) for (rate, weight), change in phases_of]
        return jnp.stack(each).sum(axis=0)

    fed, contents = sum_over_doses(curve, ends, doses, starts, durations)
    rise = functools.partial(jnp.diff, axis=0)
    return jax.vmap(mean)(rise(ends), rise(fed), [rise(content) for content in contents])


def tablet_concentration(
    times: Float[Array, " step"],
    dt: float,
    doses: Float[Array, "dose *#lane"],
    clock: Float[Array, "dose *#lane"],
    starts: Float[Array, "dose *#lane"],
    stops: Float[Array, "dose *#lane"],
    drug: TabletDrug,
    *,
    clearance_factor: LaneArrayLike = 1.0,
) -> Float[Array, "step *lane"]:
    """Concentration of tablets taken every day (mg: one tablet of d mg peaks at d), mean over each step.

    Only the last few tablets of each clock time are summed, however long the regimen. Where `stops` does not fall on a
    whole day after `starts`, the last tablet is taken in part, so that the amount is differentiable in both.

    Args:
        times: h. Beginning of each step.
        dt: h. Length of a step.
        doses: mg. Tablet of each clock time.
        clock: h. When the tablet is taken, from the beginning of each day of the regimen.
        starts: h. Beginning of the first day.
        stops: h. End of the last day.
        drug: constants, such as `methylphenidate_constants()`; of a half-life up to about 8 h.
        clearance_factor: clearance of the subject over that of the typical one.
    """

    def concentration(t, dose, hour, start, stop):
        first = start + hour
        today = jax.lax.stop_gradient(jnp.floor((t + dt - first) / HOURS_PER_DAY))  # the latest tablet that can be felt

        def felt(back):
            day = today - back
            taken = jnp.where(day >= 0, jnp.clip((stop - start) / HOURS_PER_DAY - day, 0.0, 1.0), 0.0)
            rates = drug.absorption_rate, drug.elimination_rate
            return taken * bateman_concentration(
                t, dt, first + HOURS_PER_DAY * day, drug.release, *rates, clearance_factor
            )

        return dose * jnp.sum(jax.vmap(felt)(jnp.arange(MAX_ACTIVE_TABLETS, dtype=today.dtype)), axis=0)

    return sum_over_doses(concentration, times, doses, clock, starts, stops)


def daily_concentration(
    times: Float[Array, " step"],
    dt: float,
    doses: Float[Array, "dose *#lane"],
    starts: Float[Array, "dose *#lane"],
    stops: Float[Array, "dose *#lane"],
    drug: DailyDrug,
    *,
    clearance_factor: LaneArrayLike = 1.0,
) -> Float[Array, "step *lane"]:
    """Concentration under continuous daily dosing (mg/day: a dose of d settles at d), mean over each step.

    Args:
        times: h. Beginning of each step.
        dt: h. Length of a step.
        doses: mg/day, each of one period of treatment.
        starts: h. Beginning of each period.
        stops: h. End of each period; not before its start.
        drug: constants, such as `ssri_constants()` or `bupropion_constants()`.
        clearance_factor: clearance of the subject over that of the typical one.
    """

    def concentration(t, dose, start, stop):
        duration = jnp.maximum(stop - start, 0.0)
        content = unit_rate_content(t, dt, start, duration, drug.elimination_rate * clearance_factor)
        return dose * drug.elimination_rate * content

    return sum_over_doses(concentration, times, doses, starts, stops)


def transporter_occupancy(concentration: LaneArrayLike, site: OccupancyCurve) -> Float[Array, "*#lane"]:
    """Occupied share: maximum x^hill/(1 + x^hill), with x = concentration/half (Hill 1910)."""
    bound = regularised_power(concentration / site.half, site.hill)
    return site.maximum * bound / (1.0 + bound)


def combine_occupancy(a: LaneArrayLike, b: LaneArrayLike) -> Float[Array, "*#lane"]:
    """Share of one transporter that two competing drugs occupy together, given what each would occupy alone.

    Competition adds odds, o/(1 - o) = a/(1 - a) + b/(1 - b) (Gaddum 1937), here without dividing by the free shares.

    >>> print(f"{combine_occupancy(0.5, 0.5):.3f} {combine_occupancy(0.2, 0.0):.3f}")
    0.667 0.200
    """
    return jnp.asarray((a + b - 2.0 * a * b) / (1.0 - a * b))


def regularised_power(x: LaneArrayLike, exponent: LaneArrayLike) -> Float[Array, "*#lane"]:
    """x^exponent for x >= 0, made straight below `MIN_CONCENTRATION_RATIO`, where the slope would be infinite or undefined."""
    return jnp.asarray(x * (jnp.square(x) + MIN_CONCENTRATION_RATIO**2) ** (0.5 * (exponent - 1.0)))
