"""Ketamine in the channel: block of open NMDA receptors, and its trapping when they close.

Channels shut as the block grows, within minutes of an infusion: the drug enters where the habenula bursts, and entering it
ends the bursts. A step that held the share of open channels for an hour would load ten times too much, and the drug would
seem to stay for days by that error alone; so `blocked` follows the block by fractions of a minute to minutes.

Units: h, uM. Functions are elementwise over lanes. Constants: `circuit/defaults.csv`, fitted by
`habenula.circuit.calibration.pharmacology`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import exponential_rosenbrock, exponential_step
from . import defaults
from .pharmacokinetics import Lanes
from .pharmacology import power

Lane = Float[Array, "*#lane"]

READINGS = 4  # of the concentration in each step of the slow clock
SUBSTEPS = 8  # of the block in each of them
NEAR = 0.15  # how far from the block before a step the open share is first looked up, at most
STILL = 1e-3  # blocks as near as this have one open share
FASTEST = 3.0  # e-folds by which the block's own rate may grow in a substep


class ChannelBlock(eqx.Module):
    """Block of open NMDA receptor channels by ketamine.

    Attributes:
        off_rate: 1/h. koff, from a channel that stays open.
        half_concentration: uM. Concentration that blocks half of the open channels (IC50).
        hill: Hill coefficient.
        trapping: share of blocked channels that close around the drug and hold it until they open again, 0 to 1.
        turnover: 1/h. Replacement of blocked receptors by new ones, which bounds how long a drug can stay trapped.
    """

    off_rate: Float[Array, "..."]
    half_concentration: Float[Array, "..."]
    hill: Float[Array, "..."]
    trapping: Float[Array, "..."]
    turnover: Float[Array, "..."]


def ketamine_block() -> ChannelBlock:
    """Ketamine at human NMDA receptors, from the package's table of constants."""
    return ChannelBlock(**{name: jnp.asarray(value) for name, value in defaults.section("ketamine_block").items()})


def block_rates(
    concentration: Lanes, open_share: Lanes, block: ChannelBlock
) -> tuple[Float[Array, "*#lane"], Float[Array, "*#lane"]]:
    """Steady share b of blocked channels and the rate (1/h) at which it is approached, for an exact exponential step.

        db/dt = f kon (1 - b) - ((trapping f + 1 - trapping) koff + turnover) b,   kon = koff (C/IC50)^hill

    The drug enters open channels only. A trapped drug leaves through an open channel, or with its receptor; so at
    trapping 1 falling activity stretches the block (Gilling 2009: ketamine is fully trapped), and without turnover the
    steady block would not depend on the open share f. Gilling's on rate is kon at 1 uM.

    Args:
        concentration: uM.
        open_share: f, share of time that the channel is open, 0 to 1.
        block: constants, from `ketamine_block()`.
    """
    on_rate = block.off_rate * power(concentration / block.half_concentration, block.hill)
    rate = jnp.asarray(open_share * on_rate + _leaving(open_share, block))
    # A drug that cannot leave (trapped, no activity, no turnover) stays: the rate is 0, the steady block that of any f.
    f = jnp.where(rate > 0, open_share, 1.0)
    return f * on_rate / (f * on_rate + _leaving(f, block)), rate


class Shutting(eqx.Module):
    """The share f of open channels within a step: ln f = level + slope x + curvature x^2 + drift t, with x the change of block.

    Attributes:
        level: ln f at the beginning.
        slope: per unit of block.
        curvature: per its square.
        drift: over the step (t from 0 to 1), by all that changes besides the block.
    """

    level: Lane
    slope: Lane
    curvature: Lane
    drift: Lane

    def at(self, x: Lane, t: Lane) -> Lane:
        """Ln f."""
        return self.level + x * (self.slope + self.curvature * x) + self.drift * t


def shutting(
    look: Callable[[Lane], Lane],
    level: Lane,
    block: Lane,
    concentration: Float[Array, "reading *#lane"],
    dt: float,
    p: ChannelBlock,
) -> Shutting:
    """How channels shut as the block moves in a step: a parabola through the block before it and two that lie ahead.

    Args:
        look: ln f at any block, in the circuit as it is at the beginning of the step.
        level: ln f at the beginning.
        block: share of channels that hold ketamine at the beginning.
        concentration: uM. Means over equal parts of the step, in order.
        dt: h.
        p: constants, from `ketamine_block()`.
    """
    none = jnp.zeros_like(level)
    begin = look(block)
    far = exponential_step(block, *block_rates(jnp.mean(concentration, axis=0), jnp.exp(level), p), dt)
    first = jnp.clip(far, block - NEAR, block + NEAR)
    slope = _ratio(look(first) - begin, first - block)
    second = blocked(block, concentration, Shutting(level, slope, none, none), dt, p)
    curvature = _ratio(_ratio(look(second) - begin, second - block) - slope, second - first)
    return Shutting(level, slope - curvature * (first - block), curvature, none)


def blocked(
    block: Lane, concentration: Float[Array, "reading *#lane"], share: Shutting, dt: float, p: ChannelBlock
) -> Float[Array, "*lane"]:
    """The block after `dt` (h), while the channels that it shuts are shut.

    By exponential Rosenbrock steps, which are stable where the share of open channels falls within seconds. The block never
    passes the one at which the drug's coming and going are equal.

    Args:
        block: share of channels that hold ketamine at the beginning.
        concentration: uM. Means over equal parts of the step, in order.
        share: how channels shut meanwhile, from `shutting`.
        dt: h.
        p: constants, from `ketamine_block()`.
    """
    count = concentration.shape[0] * SUBSTEPS
    h = dt / count
    lost = p.off_rate * (1.0 - p.trapping) + p.turnover  # 1/h, whatever the channels do

    def substep(b, now):
        c, t = now
        x = b - block
        f = jnp.exp(jnp.minimum(share.at(x, t), 0.0))  # a share
        on, off = p.off_rate * power(c / p.half_concentration, p.hill), p.off_rate * p.trapping
        net = on * (1.0 - b) - off * b
        flow = f * net - lost * b
        steepness = f * ((share.slope + 2.0 * share.curvature * x) * net - on - off) - lost
        onward = exponential_rosenbrock(b, flow, jnp.minimum(steepness, FASTEST / h), h)
        level = on / (on + off + 1e-6 * p.off_rate)
        return jnp.clip(onward, jnp.minimum(b, level) * jnp.exp(-lost * h), jnp.maximum(b, level)), None

    middle = (jnp.arange(count, dtype=share.level.dtype) + 0.5) / count
    return jax.lax.scan(substep, block, (jnp.repeat(concentration, SUBSTEPS, axis=0), middle))[0]


def _ratio(change: Lane, by: Lane) -> Lane:
    """change/by, or 0 where `by` is next to nothing."""
    still = jnp.abs(by) < STILL
    return jnp.where(still, 0.0, change) / jnp.where(still, 1.0, by)


def _leaving(open_share, block: ChannelBlock):
    return block.off_rate * (block.trapping * open_share + 1.0 - block.trapping) + block.turnover
