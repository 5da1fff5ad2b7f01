"""How the body takes up and clears a drug: the one kernel of the slow clock, and what is built of it.

An exponential compartment fed at a constant rate, averaged exactly over each step. Two compartments are two such
kernels, a tablet is the difference of two, and weeks of daily dosing are one long infusion. So a dose at 09:20 is a
dose at 09:20, and everything is differentiable in the amount, the time and the rates.

Units: h, L/kg. Functions are elementwise over lanes (`*lane`, usually subjects).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Lanes = Float[ArrayLike, "*#lane"]


class Disposition(eqx.Module):
    """Two compartments per kg of body weight: blood, from which the drug is cleared, and tissue.

    Attributes:
        central_volume: L/kg. V1.
        clearance: L/h/kg. CL.
        peripheral_volume: L/kg. V2.
        exchange: L/h/kg. Q, intercompartmental clearance.
    """

    central_volume: Float[Array, "..."]
    clearance: Float[Array, "..."]
    peripheral_volume: Float[Array, "..."]
    exchange: Float[Array, "..."]


def infusion(t: Lanes, dt: float, start: Lanes, duration: Lanes, rate: Lanes) -> Float[Array, "*#lane"]:
    """Mean content over [t, t + dt] of a compartment that receives a unit amount evenly over `duration` (h).

        dA/dt = [start < t < start + duration]/duration - rate A,   A = 0 before

    Exact, and continuously differentiable in every argument, also where a start or an end falls on the grid. `duration`
    and `rate` (1/h) must be positive.
    """
    return unit_infusion(t, dt, start, duration, rate) / duration


def unit_infusion(t, dt, start, duration, rate):
    """Mean content over a step of a compartment fed at unit rate; a duration of 0 feeds nothing.

    The step is cut where the infusion begins and ends. Every term is positive and none is a difference of large
    numbers, so single precision holds a year into a course.
    """

    def decayed(time):  # integral of exp(-rate s) over s from 0 to `time`
        return -jnp.expm1(-rate * time) / rate

    elapsed = t - start
    fed = jnp.clip(elapsed, 0.0, duration)
    content = jnp.exp(-rate * (jnp.maximum(elapsed, 0.0) - fed)) * decayed(fed)
    after = jnp.clip(elapsed - duration + dt, 0.0, dt)
    during = dt - jnp.clip(-elapsed, 0.0, dt) - after
    at_end = content * jnp.exp(-rate * during) + decayed(during)
    area = content * decayed(during) + (during - decayed(during)) / rate + at_end * decayed(after)
    return area / dt


def exponents(body: Disposition, clearance_factor: Lanes = 1.0):
    """Rates alpha > beta (1/h) and the share of alpha in the central compartment's answer to a bolus.

        V1 C(t) = share exp(-alpha t) + (1 - share) exp(-beta t)    (Gibaldi & Perrier 1982)

    The discriminant is written as a sum of positive terms, so that it cannot vanish by rounding.
    """
    out = body.clearance * clearance_factor / body.central_volume
    to_tissue = body.exchange / body.central_volume
    back = body.exchange / body.peripheral_volume
    apart = jnp.sqrt(jnp.square(out + to_tissue - back) + 4.0 * to_tissue * back)  # alpha - beta
    alpha = 0.5 * (out + to_tissue + back + apart)
    return alpha, out * back / alpha, (alpha - back) / apart


def two_compartments(t, dt, start, duration, body: Disposition, clearance_factor):
    """Concentration (per L/kg) in the central compartment for a unit amount, mean over a step."""
    alpha, beta, share = exponents(body, clearance_factor)
    fast, slow = jax.vmap(lambda rate: infusion(t, dt, start, duration, rate))(jnp.stack([alpha, beta]))
    return (share * fast + (1.0 - share) * slow) / body.central_volume


def tablet(t, dt, start, release, absorption_rate, elimination_rate, clearance_factor):
    """Concentration after one tablet, as a share of its peak in the typical subject; mean over a step.

        C(t) = ka/(ka - ke) (exp(-ke t) - exp(-ka t)) / C_max,   C_max = exp(-ke t_max)    (Bateman 1910)

    for a tablet that gives up its content to the gut over `release` (h), short against the two half-lives. The rates
    ka and ke (1/h) must differ.
    """
    time_of_peak = jnp.log(absorption_rate / elimination_rate) / (absorption_rate - elimination_rate)
    peak = jnp.exp(-elimination_rate * time_of_peak)
    cleared = elimination_rate * clearance_factor
    plasma = infusion(t, dt, start, release, cleared)
    gut = infusion(t, dt, start, release, absorption_rate)
    return absorption_rate / (absorption_rate - cleared) * (plasma - gut) / peak


def sum_over_doses(
    concentration: Callable[..., Array], times: Float[Array, " step"], *doses: Float[Array, "dose *#lane"]
) -> Float[Array, "step *lane"]:
    """Sum of `concentration(t, *dose)` over the leading axis of `doses`, at all `times`, holding one dose at a time."""

    @jax.checkpoint  # otherwise the backward pass keeps every dose's curve
    def course(dose):
        return jax.vmap(lambda t: concentration(t, *dose))(times)

    shapes = [jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for each in doses]
    curve = jax.eval_shape(course, shapes)
    total = jnp.zeros(curve.shape, curve.dtype)
    return jax.lax.scan(lambda sofar, dose: (sofar + course(dose), None), total, list(doses))[0]
