"""Wanting, liking and mood, which are three things.

Wanting (drive) follows the phasic capacity of the active dopamine neurons and, saturating, the tonic level at the
receptors; liking does not depend on dopamine (Berridge & Robinson 1998). Mood is a leaky sum of what the VTA signals (its
output against the healthy one, as the mean prediction error) with a serotonergic offset.

Blocking serotonin reuptake raises serotonin at once and its effect late: autoreceptors that hold release back desensitise
over two to three weeks (Artigas 1996; `adaptation`). The effect compresses the emotional range as it lifts mood, so liking
falls with it (blunting).

All constants here are assumed; levels are relative to health, where each is 1.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import defaults

Lane = Float[Array, "*#subject"]


class Motivation(eqx.Module):
    """Constants of wanting, liking and mood. Each is a scalar, shared, or one value per subject.

    Attributes:
        phasic_share: share of drive that is phasic capacity; the rest is tonic.
        receptor_half: uM. Dopamine that half-occupies the receptors of the tonic part.
        adaptation_time: h. Desensitisation of serotonin autoreceptors.
        blunting: loss of liking at full serotonergic effect.
        mood_time: h. Memory of mood.
        mood_output: change of mood per unit change of relative VTA output.
        mood_serotonin: lift of mood at full serotonergic effect.
        mood_stress: fall of mood per unit of stress.
        reference_output: Hz. VTA output of the typical healthy subject.
        reference_dopamine: uM. Accumbens dopamine of the typical healthy subject.
    """

    phasic_share: Float[Array, "*subject"]
    receptor_half: Float[Array, "*subject"]
    adaptation_time: Float[Array, "*subject"]
    blunting: Float[Array, "*subject"]
    mood_time: Float[Array, "*subject"]
    mood_output: Float[Array, "*subject"]
    mood_serotonin: Float[Array, "*subject"]
    mood_stress: Float[Array, "*subject"]
    reference_output: Float[Array, "*subject"]
    reference_dopamine: Float[Array, "*subject"]


def motivation() -> Motivation:
    """The constants of the package's table (section `motivation.*`)."""
    return Motivation(**defaults.arrays("motivation"))


def serotonin(occupancy: Lane, adaptation: Lane) -> Lane:
    """Serotonergic effect, 0 to 1: transporters occupied, and the brake on release desensitised."""
    return occupancy * adaptation


def drive(output: Lane, dopamine: Lane, p: Motivation) -> Lane:
    """Wanting: phasic capacity (VTA `output`, 1 = reference) and tonic `dopamine` (uM) at saturating receptors."""
    tone = lambda level: level / (level + p.receptor_half)
    tonic = tone(dopamine) / tone(p.reference_dopamine)
    return p.phasic_share * output + (1 - p.phasic_share) * tonic


def liking(serotonin: Lane, p: Motivation) -> Lane:
    """Pleasure of a reward once there: independent of dopamine, compressed by serotonin."""
    return 1 - p.blunting * serotonin


def mood_target(output: Lane, serotonin: Lane, stress: Lane, expectation: Lane, p: Motivation) -> Lane:
    """Where mood tends under VTA `output` (1 = reference), serotonergic effect, stress and what a placebo promises."""
    return 1 + p.mood_output * (output - 1) + p.mood_serotonin * serotonin - p.mood_stress * stress + expectation


def mood_rate(p: Motivation) -> Float[Array, "*subject"]:
    """1/h, at which mood forgets."""
    return jnp.reciprocal(p.mood_time)
