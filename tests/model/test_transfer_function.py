"""The transfer function: it is the neuron's, and it predicts operating points that it has not seen."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.calibration.transfer_function import LABEL_FLOOR, log_transform_labels, sample_operating_points
from habenula.circuit.model import lateral_habenula as lhb
from habenula.circuit.model import lhb_population, transfer_function


def test_other_constants_are_refused():
    p = lhb.neuron_constants()
    other = eqx.tree_at(lambda p: p.t_conductance, p, p.t_conductance * 1.01)
    assert transfer_function.neuron_fingerprint(p) != transfer_function.neuron_fingerprint(other)
    with pytest.raises(ValueError, match=r"calibration\.transfer"):
        transfer_function.read_transfer_function(other)


@pytest.mark.slow
def test_fresh_operating_points_are_predicted():
    """Explained variance on points drawn anew, by the bounds that distillation is held to; 96 points of 4 s each."""
    p, n = lhb.neuron_constants(), 96
    given = sample_operating_points(1024, seed=77)
    given = type(given)(**{name: leaf[:n] for name, leaf in vars(given).items()})
    seen = lhb_population.simulate_population(
        p,
        given,
        neurons=128,
        seconds=4.0,
        seed=5,
        subjects=jnp.arange(n, dtype=jnp.uint32),
        plan=lhb_population.make_population_plan(128, 2),
    )
    measured = log_transform_labels(np.stack([seen.output, seen.modes.rate, seen.modes.bursting, seen.coincidence]))
    found = transfer_function.evaluate_transfer(transfer_function.read_transfer_function(p), given)
    predicted = np.stack([jnp.log(found.output), jnp.log(found.rate), found.bursting, jnp.log(found.coincidence)])
    error = predicted - measured
    r2 = 1 - (error**2).mean(axis=1) / measured.var(axis=1)
    assert r2[0] > 0.995, f"log output: {r2[0]:.4f}"
    assert r2[1] > 0.995, f"log rate: {r2[1]:.4f}"
    assert np.sqrt((error[2] ** 2).mean()) < 0.03
    assert r2[3] > 0.95, f"log coincidence: {r2[3]:.4f}"
    assert LABEL_FLOOR.shape == (4,)


def test_conditions_beyond_the_range_are_told():
    given = lhb.slice_conditions(3, excitation=jnp.array([1.0, 5.0, 9.0]))
    beyond = transfer_function.distance_outside_range(given)
    assert beyond["excitation"].tolist()[:2] == [0.0, 0.0]
    assert beyond["excitation"][2] > 0.5
    assert float(beyond["nmda"].sum()) == 0
