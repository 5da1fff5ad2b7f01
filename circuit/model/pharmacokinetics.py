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
from jaxtyping import Array, ArrayLike, Float, PyTree

LaneArrayLike = Float[ArrayLike, "*#lane"]


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


def infusion_content(
    t: LaneArrayLike, dt: float, start: LaneArrayLike, duration: LaneArrayLike, rate: LaneArrayLike
) -> Float[Array, "*#lane"]:
    """Mean content over [t, t + dt] of a compartment that receives a unit amount evenly over `duration` (h).

        dA/dt = [start < t < start + duration]/duration - rate A,   A = 0 before

    Exact, and continuously differentiable in every argument, also where a start or an end falls on the grid. `duration`
    and `rate` (1/h) must be positive.
    """
    return unit_rate_content(t, dt, start, duration, rate) / duration


def unit_rate_content(t, dt, start, duration, rate):
    """Mean content over a step of a compartment fed at unit rate; a duration of 0 feeds nothing.

    The step is cut where the infusion begins and ends. Every term is positive and none is a difference of large
    numbers, so single precision holds however slow the rate; `mean_content` is cheaper where the rate is fast.
    """
    elapsed = t - start
    _, content = cumulative_input_and_content(t, start, duration, rate)
    after = jnp.clip(elapsed - duration + dt, 0.0, dt)
    during = dt - jnp.clip(-elapsed, 0.0, dt) - after
    fed = _decay_integral(during, rate)
    at_end = content * jnp.exp(-rate * during) + fed
    area = content * fed + (during - fed) / rate + at_end * _decay_integral(after, rate)
    return area / dt


def cumulative_input_and_content(t, start, duration, rate):
    """What a compartment fed at unit rate has received until `t`, and what it holds of that.

    The content is a product of positive terms, so single precision holds a year into a course.
    """
    elapsed = t - start
    fed = jnp.clip(elapsed, 0.0, duration)
    return fed, jnp.exp(-rate * (jnp.maximum(elapsed, 0.0) - fed)) * _decay_integral(fed, rate)


def _decay_integral(time, rate):
    """The integral of exp(-rate s) over s from 0 to `time`."""
    return -jnp.expm1(-rate * time) / rate


def mean_content(fed, change, rate, dt):
    """Mean content over a step in which a compartment received `fed` and its content rose by `change`.

    What came in and did not stay has left, at `rate` times the content. So content is needed at the ends of steps only, and
    sums over doses can be taken before; in single precision that costs a relative error of 1e-7/(rate dt).
    """
    return (fed - change) / (rate * dt)


def disposition_phases(body: Disposition, clearance_factor: LaneArrayLike = 1.0):
    """How two compartments clear the blood: pairs of a rate (1/h) and a weight (kg/L), the faster first.

        C(t) = sum weight exp(-rate t) after a unit bolus    (Gibaldi & Perrier 1982)

    The discriminant is written as a sum of positive terms, so that it cannot vanish by rounding.
    """
    out = body.clearance * clearance_factor / body.central_volume
    to_tissue = body.exchange / body.central_volume
    back = body.exchange / body.peripheral_volume
    apart = jnp.sqrt(jnp.square(out + to_tissue - back) + 4.0 * to_tissue * back)
    fast = 0.5 * (out + to_tissue + back + apart)
    share = (fast - back) / apart
    return (fast, share / body.central_volume), (out * back / fast, (1.0 - share) / body.central_volume)


def two_compartment_concentration(t, start, duration, body: Disposition):
    """Concentration (per L/kg) in the central compartment at `t`, of a unit amount given evenly over `duration`."""
    parts = [
        weight * cumulative_input_and_content(t, start, duration, rate)[1] for rate, weight in disposition_phases(body)
    ]
    return sum(parts) / duration


def bateman_concentration(t, dt, start, release, absorption_rate, elimination_rate, clearance_factor):
    """Concentration after one tablet, as a share of its peak in the typical subject; mean over a step.

        C(t) = ka/(ka - ke) (exp(-ke t) - exp(-ka t)) / C_max,   C_max = exp(-ke t_max)    (Bateman 1910)

    for a tablet that gives up its content to the gut over `release` (h), short against the two half-lives. The rates
    ka and ke (1/h) must differ.
    """
    time_of_peak = jnp.log(absorption_rate / elimination_rate) / (absorption_rate - elimination_rate)
    peak = jnp.exp(-elimination_rate * time_of_peak)
    cleared = elimination_rate * clearance_factor
    plasma = infusion_content(t, dt, start, release, cleared)
    gut = infusion_content(t, dt, start, release, absorption_rate)
    return absorption_rate / (absorption_rate - cleared) * (plasma - gut) / peak


def sum_over_doses(
    curve: Callable[..., PyTree], times: Float[Array, " step"], *doses: Float[Array, "dose *#lane"]
) -> PyTree:
    """Sum of `curve(t, *dose)` over the leading axis of `doses`, at all `times`, holding one dose at a time.

    Returns:
        What `curve` returns, with a first axis of times before that of lanes.
    """

    @jax.checkpoint  # otherwise the backward pass keeps every dose's curve
    def course(dose):
        return jax.vmap(lambda t: curve(t, *dose))(times)

    shapes = [jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for each in doses]
    none = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(course, shapes))
    add = lambda total, dose: (jax.tree.map(jnp.add, total, course(dose)), None)
    return jax.lax.scan(add, none, list(doses))[0]
