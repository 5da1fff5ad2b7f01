"""Wanting, liking and mood, which are three things.

Wanting (drive) follows the phasic capacity of the active dopamine neurons and, saturating, the tonic level at the
receptors; liking does not depend on dopamine (Berridge & Robinson 1998). Mood is a leaky sum of what the VTA signals (its
output against the healthy one, as the mean prediction error) with a serotonergic offset.

Blocking serotonin reuptake raises serotonin at once and its effect late: autoreceptors that hold release back desensitise
over two to three weeks (Artigas 1996; `adaptation`). The effect compresses the emotional range as it lifts mood, so liking
falls with it (blunting).

Being seen and hoping to get better lifts mood too, with nothing acting on the gate. Each visit adds as much as the last
(Posternak & Zimmerman 2007), so what is expected is a leaky sum of visits, which builds over weeks:

    d expectation / dt = visit_lift * visits per hour - expectation / visit_time

How much a visit adds is fitted (`calibration.visits`); all other constants here are assumed. Levels are relative to health,
where each is 1.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import constants
from .pharmacokinetics import unit_rate_content

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
        visit_lift: what one visit adds to the expectation, in units of mood.
        visit_time: h. How long that lasts.
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
    visit_lift: Float[Array, "*subject"]
    visit_time: Float[Array, "*subject"]
    reference_output: Float[Array, "*subject"]
    reference_dopamine: Float[Array, "*subject"]


def motivation_constants() -> Motivation:
    """The constants of the package's table (section `motivation.*`)."""
    return Motivation(**constants.section_arrays("motivation"))


def serotonergic_effect(occupancy: Lane, adaptation: Lane) -> Lane:
    """Serotonergic effect, 0 to 1: transporters occupied, and the brake on release desensitised."""
    return occupancy * adaptation


def motivational_drive(output: Lane, dopamine: Lane, p: Motivation) -> Lane:
    """Wanting: phasic capacity (VTA `output`, 1 = reference) and tonic `dopamine` (uM) at saturating receptors."""
    tone = lambda level: level / (level + p.receptor_half)
    tonic = tone(dopamine) / tone(p.reference_dopamine)
    return p.phasic_share * output + (1 - p.phasic_share) * tonic


def liking(serotonin: Lane, p: Motivation) -> Lane:
    """Pleasure of a reward once there: independent of dopamine, compressed by serotonin."""
    return 1 - p.blunting * serotonin


def placebo_expectancy(
    since: Float[Array, "*#s"], dt: float, duration: Float[Array, "*#s"], per_hour: Float[Array, "*#s"], p: Motivation
) -> Float[Array, "*#s"]:
    """Mean expectation, in units of mood, over a step of `dt` (h) that begins `since` (h) the first visit.

    Args:
        since: h. Below 0 before the first visit.
        dt: h.
        duration: h. How long visits go on.
        per_hour: visits, spread evenly.
        p: constants.
    """
    return p.visit_lift * per_hour * unit_rate_content(since, dt, 0.0, duration, 1 / p.visit_time)


def mood_target(output: Lane, serotonin: Lane, stress: Lane, expectation: Lane, p: Motivation) -> Lane:
    """Where mood tends under VTA `output` (1 = reference), serotonergic effect, stress and what visits make one expect."""
    return 1 + p.mood_output * (output - 1) + p.mood_serotonin * serotonin - p.mood_stress * stress + expectation


def mood_rate(p: Motivation) -> Float[Array, "*subject"]:
    """1/h, at which mood forgets."""
    return jnp.reciprocal(p.mood_time)
