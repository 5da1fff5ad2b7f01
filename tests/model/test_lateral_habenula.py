"""The LHb neuron: its equations against an outside integrator, its population, its modes."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.model import lateral_habenula as lhb
from habenula.circuit.model import lhb_population


def test_cells_are_the_normal_quantiles_they_stand_for():
    p = lhb.neuron_constants()
    cells = lhb.heterogeneity_quadrature(p, 256)
    for values, mean, spread in (
        (cells.leak_reversal, p.leak_reversal, p.leak_reversal_spread),
        (cells.spike_threshold, p.spike_threshold, p.spike_threshold_spread),
    ):
        assert values.shape == (256, 1)
        np.testing.assert_allclose(values.mean(), mean, atol=0.02 * float(spread))
        np.testing.assert_allclose(values.std(), spread, rtol=0.03)
    # A Hammersley set's correlation falls as log2(n)/n, times 3 for the variances of its uniform coordinates.
    correlation = abs(np.corrcoef(cells.leak_reversal[:, 0], cells.spike_threshold[:, 0])[0, 1])
    assert correlation < 1.2 * 3 * np.log2(256) / 256


def test_steps_follow_the_differential_equation(float64):
    """Without noise, many small steps agree with a fifth-order integrator of the same right-hand side."""
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), lhb.neuron_constants())
    given = lhb.slice_conditions(1, excitation=1.8, kir_shift=-6.0, inhibition=0.002, current=0.05)
    cells = lhb.heterogeneity_quadrature(p, 4)
    begin = lhb.resting_neuron_state(p, cells, given)

    def right_hand_side(t, y, _):
        v, h, a = y
        activation = jax.nn.sigmoid((v - p.t_activation_half) / p.t_activation_slope)
        calcium = p.t_conductance * activation**2 * h * (120 - v)
        ampa = 1.8 * p.ampa_conductance * (0 - v)
        nmda = 1.8 * p.nmda_conductance * lhb.magnesium_unblock(v) * (0 - v)
        leak = p.leak_conductance * (cells.leak_reversal - 6.0 - v)
        other = 0.002 * (-72 - v) + p.afterhyperpolarisation_conductance * a * (-90 - v) + 0.05
        tau = p.t_recovery_fast + p.t_recovery_slow * jax.nn.sigmoid(-(v + 60) / 3)
        available = jax.nn.sigmoid((p.t_availability_half - v) / p.t_availability_slope)
        r = lhb.spike_rate_envelope(v, p, cells)
        return (
            leak + calcium + ampa + nmda + other,
            (available - h) / tau,
            (r / 100 - a) / p.afterhyperpolarisation_time,
        )

    y0 = (begin.potential, begin.availability, begin.afterhyperpolarisation)
    solved = diffrax.diffeqsolve(
        diffrax.ODETerm(right_hand_side),
        diffrax.Tsit5(),
        0.0,
        100.0,
        0.01,
        y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        max_steps=100_000,
    ).ys

    def reached(dt):
        quiet = jnp.zeros((4, 1))
        advance = lambda _, state: lhb.step_neurons(state, given, quiet, p, cells, dt)
        return jax.lax.fori_loop(0, round(100 / dt), advance, begin)

    errors = [np.abs(reached(dt).potential - solved[0][-1]).max() for dt in (0.02, 0.01)]
    assert errors[1] < 0.2
    assert 1.7 < errors[0] / errors[1] < 2.4  # first order


@pytest.mark.parametrize(("blocked", "left"), [("nmda", 0.1), ("t_channel", 0.1)])
def test_bursts_need_both_currents(blocked, left):
    """Bursting is the cycle of two currents: without either, it goes (Yang 2018)."""
    depressed = dict(excitation=1.84, kir_shift=-6.0)
    given = lhb.slice_conditions(2, **depressed, **{blocked: jnp.array([1.0, 0.0])})
    seen = lhb_population.simulate_population(lhb.neuron_constants(), given, neurons=64, seconds=3.0)
    whole, without = np.asarray(seen.modes.bursting)
    assert whole > 0.15
    assert without <= left * whole


def test_modes_share_out_all_neurons():
    rates = jnp.array([[0.1], [2.0], [6.0], [0.2]])
    peaks = jnp.array([[5.0], [80.0], [200.0], [150.0]])
    onsets = jnp.array([[0.0], [0.0], [6.0], [1.5]])
    seen = lhb.classify_modes(rates, peaks, onsets, jnp.full((4, 1), -50.0))
    np.testing.assert_allclose([seen.silent[0], seen.tonic[0], seen.bursting[0]], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(seen.burst_rate, 3.75)
    quiet = lhb.classify_modes(rates[:2], peaks[:2], onsets[:2], jnp.full((2, 1), -50.0))
    assert np.isnan(quiet.burst_rate[0])


def test_bursts_count_for_more_than_the_same_spikes():
    p = lhb.neuron_constants()
    spread = jnp.full((10, 1), 10.0)
    burst = jnp.zeros((10, 1)).at[0].set(100.0)
    assert float(lhb.habenula_output(burst, p)[0]) > 1.5 * float(lhb.habenula_output(spread, p)[0])


@pytest.mark.slow
def test_population_does_not_depend_on_tiles():
    from habenula.kernels import Plan

    given = lhb.slice_conditions(20, excitation=jnp.linspace(0.8, 3.0, 20))
    runs = [
        lhb_population.simulate_population(
            lhb.neuron_constants(), given, neurons=8, seconds=0.5, settle=0.25, plan=Plan(tile=tile)
        )
        for tile in (16, 32)
    ]
    np.testing.assert_array_equal(runs[0].output, runs[1].output)


def test_unknown_conditions_are_named():
    with pytest.raises(ValueError, match="excitatoin"):
        lhb.slice_conditions(1, excitatoin=2.0)
    with pytest.raises(ValueError, match="seconds=0"):
        lhb_population.simulate_population(lhb.neuron_constants(), lhb.slice_conditions(1), seconds=0.0)
