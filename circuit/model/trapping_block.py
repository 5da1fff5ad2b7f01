"""Ketamine in the channel: block of open NMDA receptors, and its trapping when they close.

Channels shut as the block grows, within minutes of an infusion: the drug enters where the habenula bursts, and entering it
ends the bursts. A step that held the share of open channels for an hour would load far too much, and the drug would seem to
stay for days by that error alone; so `advance_block` follows the block by two minutes, along an open share that is looked up in
the circuit at four blocks.

Units: h, uM. Functions are elementwise over lanes. Constants: `circuit/data/constants.csv`, fitted by
`habenula.circuit.calibration.pharmacology`.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kernels import exponential_rosenbrock
from ..data import constants
from .pharmacokinetics import LaneArrayLike
from .pharmacology import regularised_power

Lane = Float[Array, "*#lane"]

SAMPLES_PER_STEP = 4  # of the concentration in each step of the slow clock
SUBSTEPS_PER_SAMPLE = 8  # of the block in each of them
LOOKUP_COUNT = 4  # blocks at which the open share is looked up
MAX_LOOKUP_SPACING, MIN_LOOKUP_SPACING = (
    0.12,
    0.01,
)  # between the blocks at which the open share is looked up, at most and at least
RATE_FLOOR = 1e-3  # 1/h, beside rates on and off that are both 0
MAX_GROWTH = 3.0  # e-folds by which the block's own rate may grow in a substep


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


def ketamine_block_constants() -> ChannelBlock:
    """Ketamine at human NMDA receptors, from the package's table of constants."""
    return ChannelBlock(**constants.section_arrays("ketamine_block"))


def steady_block_and_rate(
    concentration: LaneArrayLike, open_share: LaneArrayLike, block: ChannelBlock
) -> tuple[Float[Array, "*#lane"], Float[Array, "*#lane"]]:
    """Steady share b of blocked channels and the rate (1/h) at which it is approached, for an exact exponential step.

        db/dt = f kon (1 - b) - ((trapping f + 1 - trapping) koff + turnover) b,   kon = koff (C/IC50)^hill

    The drug enters open channels only. A trapped drug leaves through an open channel, or with its receptor; so at
    trapping 1 falling activity stretches the block (Gilling 2009: ketamine is fully trapped), and without turnover the
    steady block would not depend on the open share f. Gilling's on rate is kon at 1 uM.

    Args:
        concentration: uM.
        open_share: f, share of time that the channel is open, 0 to 1.
        block: constants, from `ketamine_block_constants()`.
    """
    on_rate = _blocking_rate(concentration, block)
    rate = jnp.asarray(open_share * on_rate + _unblocking_rate(open_share, block))
    # A drug that cannot leave (trapped, no activity, no turnover) stays: the rate is 0, the steady block that of any f.
    f = jnp.where(rate > 0, open_share, 1.0)
    return f * on_rate / (f * on_rate + _unblocking_rate(f, block)), rate


class OpenShareCurve(eqx.Module):
    """The share f of open channels within a step: a cubic in the block for ln f, and a drift with all that changes besides.

    ln f = level + first u + second u(u-1)/2 + third u(u-1)(u-2)/6 + drift t, with u = x/apart and x the change of block.

    Attributes:
        level: ln f at the beginning.
        first, second, third: differences of ln f between blocks that lie `apart`.
        apart: between those blocks.
        drift: over the step (t from 0 to 1).
    """

    level: Lane
    first: Lane
    second: Lane
    third: Lane
    apart: Lane
    drift: Lane

    def at(self, x: Lane, t: Lane) -> tuple[Lane, Lane]:
        """Ln f, and its slope in the block."""
        u = x / self.apart
        value = self.level + u * (self.first + (u - 1) / 2 * (self.second + (u - 2) / 3 * self.third)) + self.drift * t
        slope = self.first + (2 * u - 1) / 2 * self.second + (u * (3 * u - 6) + 2) / 6 * self.third
        return value, slope / self.apart


def lookup_spacing(
    block: Lane, concentration: Float[Array, "reading *#lane"], p: ChannelBlock
) -> Float[Array, "*lane"]:
    """How far apart the four blocks lie at which the open share is looked up, towards where the block will go."""
    steady, _ = steady_block_and_rate(jnp.mean(concentration, axis=0), jnp.ones_like(block), p)
    return jnp.where(
        steady > block,
        MAX_LOOKUP_SPACING,
        -jnp.clip(block / (LOOKUP_COUNT - 1), MIN_LOOKUP_SPACING, MAX_LOOKUP_SPACING),
    )


def interpolate_open_share(level: Lane, before: Lane, looked: Float[Array, "4 *#lane"], apart: Lane) -> OpenShareCurve:
    """How channels shut as the block moves in a step.

    Args:
        level: ln f at the beginning, over all that the step holds.
        before: the same at rest.
        looked: ln f at rest in the circuit as it will be, but with the block at the beginning, and one, two and three times
            `apart` from it.
        apart: the distance between those blocks, from `lookup_spacing`.
    """
    first = [looked[i + 1] - looked[i] for i in range(LOOKUP_COUNT - 1)]
    second = [first[i + 1] - first[i] for i in range(LOOKUP_COUNT - 2)]
    return OpenShareCurve(level, first[0], second[0], second[1] - second[0], apart, looked[0] - before)


def advance_block(
    block: Lane, concentration: Float[Array, "reading *#lane"], share: OpenShareCurve, dt: float, p: ChannelBlock
) -> Float[Array, "*lane"]:
    """The block after `dt` (h), while the channels that it shuts are shut.

    By exponential Rosenbrock steps, which are stable where the share of open channels falls within seconds. The block never
    passes the one at which the drug's coming and going are equal.

    Args:
        block: share of channels that hold ketamine at the beginning.
        concentration: uM. Means over equal parts of the step, in order.
        share: how channels shut meanwhile, from `interpolate_open_share`.
        dt: h.
        p: constants, from `ketamine_block_constants()`.
    """
    count = concentration.shape[0] * SUBSTEPS_PER_SAMPLE
    h = dt / count
    off, lost = p.off_rate * p.trapping, _unblocking_rate(0.0, p)  # 1/h, through open channels and whatever they do
    kept = jnp.exp(-lost * h)

    def substep(n, b, on):
        t = (n.astype(share.level.dtype) + 0.5) / count
        value, slope = share.at(b - block, t)
        f = jnp.exp(jnp.minimum(value, 0.0))  # a share
        net = on * (1.0 - b) - off * b
        flow = f * net - lost * b
        steepness = f * (slope * net - on - off) - lost
        onward = exponential_rosenbrock(b, flow, jnp.minimum(steepness, MAX_GROWTH / h), h)
        balance = on / (on + off + RATE_FLOOR)
        return jnp.clip(onward, jnp.minimum(b, balance) * kept, jnp.maximum(b, balance))

    b = block
    for reading in range(concentration.shape[0]):
        begins, on = reading * SUBSTEPS_PER_SAMPLE, _blocking_rate(concentration[reading], p)
        b = jax.lax.fori_loop(begins, begins + SUBSTEPS_PER_SAMPLE, functools.partial(substep, on=on), b)
    return b


def _blocking_rate(concentration: LaneArrayLike, block: ChannelBlock) -> LaneArrayLike:
    """Rate (1/h) at which an open channel is blocked; constants are shared or one per lane, and so is `concentration`."""
    return block.off_rate * regularised_power(concentration / block.half_concentration, block.hill)


def _unblocking_rate(open_share: LaneArrayLike, block: ChannelBlock) -> Float[Array, "*#lane"]:
    """Rate (1/h) at which a blocked one is freed."""
    return jnp.asarray(block.off_rate * (block.trapping * open_share + 1.0 - block.trapping) + block.turnover)
