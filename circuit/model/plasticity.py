"""What changes over days: synapses and channels of the habenula, prefrontal control, trapped ketamine.

Every slow state relaxes, dx/dt = rate (steady - x), with a rate and a steady value that depend on everything else; the
slow clock takes exact exponential steps of that, and `fixed_points` looks for x = steady.

    potentiation = susceptibility (stress_drive stress + feedback sigma((1 - output - deficit_half)/deficit_slope))
    postsynaptic gain   decays to 1, potentiated to gain_maximum, depressed to gain_floor in sessions
    presynaptic release decays to 1, potentiated by stress alone (Li 2011)
    Kir4.1 shift        decays to 0, driven to -kir_maximum by potentiation (Cui 2018)
    inhibition          decays to 1 (a little above under serotonin), weakened by stress (Lecca 2016) and by mGluR LTD
    prefrontal control  follows dopamine tone, weakened by stress (Arnsten 2009)

The deficit term closes the loop: low dopamine potentiates the synapses that keep dopamine low. With saturation it makes two
stable set points; neither is written in.

Long-term depression (LTD) is gated by the activity of the synapse at the time of the session, a Hill function of the
habenular output during the challenge: group-I mGluRs need the glutamate of bursts (Valentinova & Mameli 2016). The same
receptors weaken inhibition whether or not the synapse is active, so a session placed at rest can raise firing.

Units: hours, and pure numbers for strengths (1 is the healthy slice); mV for the Kir4.1 shift.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import constants


class Plasticity(eqx.Module):
    """Constants of the slow clock. Each is a scalar, shared, or one value per subject.

    Attributes:
        susceptibility: factor on everything that stress and the dopamine deficit potentiate.
        stress_drive: potentiation by unit stress, where a full dopamine deficit gives 1.
        feedback: 1, or 0 to cut the loop from the dopamine deficit back to the synapses.
        deficit_half: shortfall of VTA output, as a share of the reference, that half-activates potentiation.
        deficit_slope: spread of that threshold.
        gain_rate: 1/h. Potentiation of postsynaptic gain under unit drive.
        gain_maximum: saturation of the gain.
        gain_time: h. Decay of the gain to 1.
        gain_floor: where LTD takes the gain.
        release_rate: 1/h. Potentiation of presynaptic release under unit stress.
        release_maximum: saturation of release.
        release_time: h. Decay of release to 1.
        kir_rate: 1/h. Rise of Kir4.1 under unit drive.
        kir_maximum: mV. Largest hyperpolarisation by Kir4.1.
        kir_time: h. Decay of the shift.
        inhibition_rate: 1/h. Loss of inhibition under unit stress.
        inhibition_time: h. Recovery of inhibition.
        inhibition_serotonin: rise of the steady inhibition under full serotonergic effect.
        control_time: h. How fast prefrontal control follows.
        control_stress: stress that would halve prefrontal control, inverse.
        control_dopamine: uM. Dopamine at which prefrontal control is half of its maximum.
        depression_rate: 1/h. LTD of the gain in a session of intensity 1 with an open gate.
        depression_half: Hz. Habenular output that half-opens the gate.
        depression_hill: steepness of the gate.
        depression_gate: 1, or 0 to make LTD independent of activity.
        depression_stress: stress that would halve LTD, inverse (Park 2017: stress impairs it).
        disinhibition_rate: 1/h. mGluR LTD of inhibition in a session of intensity 1.
    """

    susceptibility: Float[Array, "*subject"]
    stress_drive: Float[Array, "*subject"]
    feedback: Float[Array, "*subject"]
    deficit_half: Float[Array, "*subject"]
    deficit_slope: Float[Array, "*subject"]
    gain_rate: Float[Array, "*subject"]
    gain_maximum: Float[Array, "*subject"]
    gain_time: Float[Array, "*subject"]
    gain_floor: Float[Array, "*subject"]
    release_rate: Float[Array, "*subject"]
    release_maximum: Float[Array, "*subject"]
    release_time: Float[Array, "*subject"]
    kir_rate: Float[Array, "*subject"]
    kir_maximum: Float[Array, "*subject"]
    kir_time: Float[Array, "*subject"]
    inhibition_rate: Float[Array, "*subject"]
    inhibition_time: Float[Array, "*subject"]
    inhibition_serotonin: Float[Array, "*subject"]
    control_time: Float[Array, "*subject"]
    control_stress: Float[Array, "*subject"]
    control_dopamine: Float[Array, "*subject"]
    depression_rate: Float[Array, "*subject"]
    depression_half: Float[Array, "*subject"]
    depression_hill: Float[Array, "*subject"]
    depression_gate: Float[Array, "*subject"]
    depression_stress: Float[Array, "*subject"]
    disinhibition_rate: Float[Array, "*subject"]


class Synapses(eqx.Module):
    """The habenula's input in vivo, on top of the slice. Each is a scalar, shared, or one value per subject.

    Attributes:
        strength: baseline excitatory strength, 1 in the slice.
        inhibition: mS/cm2. GABAergic and GIRK conductance at inhibition 1.
        everyday: aversive input of ordinary life, in units of full stress.
        everyday_spread: standard deviation of its fluctuation.
        everyday_time: h. Time constant of that fluctuation.
        aversive_gain: excitatory drive per unit of aversive input.
        control: share of the aversive drive that intact prefrontal control keeps from the habenula.
        glutamate_half: Hz. Habenular output at which the glutamate pooled from the population opens half of what it can.
        glutamate_power: steepness of that.
    """

    strength: Float[Array, "*subject"]
    inhibition: Float[Array, "*subject"]
    everyday: Float[Array, "*subject"]
    everyday_spread: Float[Array, "*subject"]
    everyday_time: Float[Array, "*subject"]
    aversive_gain: Float[Array, "*subject"]
    control: Float[Array, "*subject"]
    glutamate_half: Float[Array, "*subject"]
    glutamate_power: Float[Array, "*subject"]


def plasticity_constants() -> Plasticity:
    """The constants of the package's table (section `plasticity.*`)."""
    return Plasticity(**constants.section_arrays("plasticity"))


def synapse_constants() -> Synapses:
    """The constants of the package's table (section `synapses.*`)."""
    return Synapses(**constants.section_arrays("synapses"))


Lane = Float[Array, "*#subject"]


class Relaxation(eqx.Module):
    """dx/dt = rate (steady - x), rate in 1/h."""

    steady: Lane
    rate: Lane


def afferent_drive(aversive: Lane, control: Lane, p: Synapses) -> Lane:
    """Activity of excitatory afferents, 1 at peace. Prefrontal control takes its share off the aversive part, at most all.

    The direct projection from medial prefrontal cortex to the LHb is excitatory (Warden 2012): control acts through
    another node, which is left implicit.
    """
    return 1 + p.aversive_gain * aversive * jnp.maximum(1 - p.control * control, 0)


def nmda_open_share(output: Lane, coincidence: Lane, p: Synapses) -> Lane:
    """Share f of the time that an NMDA channel is open: glutamate pooled from the population, and its cell depolarised.

    f = coincidence S^power/(S^power + glutamate_half^power), never above the share of time that the cell alone would allow.
    The pooled factor is a closure: trapping happens cell by cell, and the cells that have stopped bursting keep their
    ketamine while those that burst on lose it; one mean block cannot hold this.
    """
    return coincidence * jax.nn.sigmoid(p.glutamate_power * (jnp.log(output) - jnp.log(p.glutamate_half)))


def potentiation_drive(output: Lane, stress: Lane, p: Plasticity) -> Lane:
    """Drive of potentiation by stress and by the shortfall of VTA `output` (1 = the healthy reference)."""
    deficit = jax.nn.sigmoid((1 - output - p.deficit_half) / p.deficit_slope)
    return p.susceptibility * (p.stress_drive * stress + p.feedback * deficit)


def ltd_rate(output: Lane, intensity: Lane, stress: Lane, p: Plasticity) -> Lane:
    """Rate (1/h) of LTD in a session of `intensity` while the habenula puts out `output` (Hz)."""
    active = jax.nn.sigmoid(p.depression_hill * (jnp.log(output) - jnp.log(p.depression_half)))  # Hill, in logarithms
    gate = p.depression_gate * active + (1 - p.depression_gate)
    return p.depression_rate * intensity * gate / (1 + p.depression_stress * stress)


def gain_relaxation(drive: Lane, depression: Lane, p: Plasticity) -> Relaxation:
    """Postsynaptic gain: decay, potentiation by `afferent_drive`, LTD at rate `ltd_rate` (1/h)."""
    up = p.gain_rate * drive
    rate = 1 / p.gain_time + up + depression
    return Relaxation((1 / p.gain_time + up * p.gain_maximum + depression * p.gain_floor) / rate, rate)


def release_relaxation(stress: Lane, p: Plasticity) -> Relaxation:
    """Presynaptic release."""
    up = p.release_rate * p.susceptibility * stress
    rate = 1 / p.release_time + up
    return Relaxation((1 / p.release_time + up * p.release_maximum) / rate, rate)


def kir_shift_relaxation(drive: Lane, p: Plasticity) -> Relaxation:
    """Shift of the resting potential by Kir4.1 (mV)."""
    up = p.kir_rate * drive
    rate = 1 / p.kir_time + up
    return Relaxation(-p.kir_maximum * up / rate, rate)


def inhibition_relaxation(stress: Lane, intensity: Lane, serotonin: Lane, p: Plasticity) -> Relaxation:
    """Inhibitory strength; `intensity` of a session weakens it, `serotonin` (0 to 1) restores it a little."""
    down = p.inhibition_rate * p.susceptibility * stress + p.disinhibition_rate * intensity
    rate = 1 / p.inhibition_time + down
    return Relaxation((1 + p.inhibition_serotonin * serotonin) / p.inhibition_time / rate, rate)


def control_relaxation(dopamine: Lane, reference: Lane, stress: Lane, p: Plasticity) -> Relaxation:
    """Prefrontal control, 1 in health, under accumbens `dopamine` (uM; `reference` in health), which stands for that there.

    Catecholamines open and shut prefrontal networks within minutes to hours (Arnsten 2009).
    """
    tone = lambda level: level / (level + p.control_dopamine)
    steady = tone(dopamine) / tone(reference) / (1 + p.control_stress * stress)
    return Relaxation(steady, jnp.broadcast_to(1 / p.control_time, steady.shape))
