"""The fast clock: one quarter of a millisecond at a time, from membrane currents to accumbens dopamine.

The slow state sets the stage (synapses, channels, drugs) and does not move within a moment. Events reach the habenula in
three ways: a current into its neurons; the reward-prediction error, with opposite sign (Matsumoto & Hikosaka 2007); and
aversive input, which also has a way to the RMTg that does not pass through the habenula.

Units: ms, mV, Hz, uM. Lanes (subjects) are the last axis.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import constants
from . import dopamine as da
from . import lateral_habenula as lhb
from . import plasticity
from .parameters import Parameters
from .slow_clock import SlowState, habenula_conditions

Lane = Float[Array, " subject"]
LaneOrScalar = Float[Array, "*#subject"]

FAST_STEP = 0.25  # ms, the fast clock's step
EVENT_KINDS = ("current", "reward", "aversive")


class FastState(eqx.Module):
    """Where the circuit is now, on the scale of milliseconds."""

    neurons: lhb.NeuronState
    dopamine: da.DopamineState


class FastInputs(eqx.Module):
    """What happens now.

    Attributes:
        current: uA/cm2 into every LHb neuron (an electrode, an opsin).
        reward: prediction error, 1 for an unexpected full reward, -1 for its omission.
        aversive: 1 for a strong air puff, on top of everyday life.
    """

    current: LaneOrScalar
    reward: LaneOrScalar
    aversive: LaneOrScalar


class FastActivity(eqx.Module):
    """The circuit's activity in one step: names and units as in a course."""

    habenula: Lane
    rmtg: Lane
    active: Lane
    rate: Lane
    vta_output: Lane
    dopamine: Lane


def momentary_conditions(
    slow: SlowState, inputs: FastInputs, p: Parameters, reward_current: float
) -> lhb.NeuronConditions:
    """Conditions of the LHb neurons under the slow state and this moment's events."""
    aversive = p.synapses.everyday + slow.aversion + inputs.aversive
    drive = plasticity.afferent_drive(aversive, slow.control, p.synapses)
    stage = habenula_conditions(slow, p.synapses.strength * slow.release * slow.gain * drive, p)
    current = inputs.current - reward_current * inputs.reward
    return eqx.tree_at(lambda c: c.current, stage, stage.current + current)


def reward_current() -> float:
    """uA/cm2 taken from LHb neurons by a prediction error of 1."""
    return constants.constant_value("habenula_input.reward_current")


def step_fast_clock(
    state: FastState,
    slow: SlowState,
    inputs: FastInputs,
    z: Float[Array, "neuron subject"],
    p: Parameters,
    cells: lhb.NeuronHeterogeneity,
    reward: float,
) -> tuple[FastState, FastActivity]:
    """Advance by `FAST_STEP`. Returns the state and the circuit's activity."""
    neurons = lhb.step_neurons(
        state.neurons, momentary_conditions(slow, inputs, p, reward), z, p.neuron, cells, FAST_STEP
    )
    habenula = lhb.habenula_output(neurons.rate, p.neuron)
    nothing = jnp.zeros_like(habenula)
    aversive = nothing + inputs.aversive
    dopamine, number, rate = da.step_dopamine(state.dopamine, habenula, aversive, nothing, p.dopamine, FAST_STEP)
    seen = FastActivity(habenula, dopamine.rmtg, number, rate, number * rate, dopamine.dopamine)
    return FastState(neurons, dopamine), seen
