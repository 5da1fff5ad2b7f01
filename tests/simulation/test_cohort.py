"""Who the subjects are: traits as pure functions of seed and number, correlated as the table says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import PLAIN

from habenula.circuit.model.parameters import typical
from habenula.circuit.simulation import cohort as cohorts
from habenula.circuit.simulation.cohort import TRAIT_CORRELATIONS, TRAIT_SPREADS, get_leaf, with_traits
from habenula.circuit.simulation.conditions import depressed, draw, healthy

SEED = jnp.uint32(3)


def traits(subjects, seed=SEED, shifts=None):
    return with_traits(typical(), subjects, seed, shifts or {})


def test_traits_have_the_spread_and_the_correlations_of_the_table():
    n = 20000
    p = traits(jnp.arange(n, dtype=jnp.uint32))
    z = {path: np.log(get_leaf(p, path) / get_leaf(typical(), path)) / spread for path, spread in TRAIT_SPREADS.items()}
    for path, values in z.items():
        assert abs(values.mean()) < 6 / n**0.5, path
        assert abs(values.var() - 1) < 6 * (2 / n) ** 0.5, path
    names = list(TRAIT_SPREADS)
    for i, a in enumerate(names):
        for b in names[:i]:
            expected = TRAIT_CORRELATIONS.get((a, b), TRAIT_CORRELATIONS.get((b, a), 0.0))
            assert abs(np.mean(z[a] * z[b]) - expected) < 6 / n**0.5, (a, b)


def test_traits_are_one_program():
    """Every operation by itself would be a program of its own, and a start would take seconds more."""
    typical_one, subjects, compiled = typical(), jnp.arange(37, dtype=jnp.uint32), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    try:
        with_traits(typical_one, subjects, SEED, {})
    finally:
        jax.monitoring.clear_event_listeners()
    assert 1 <= len(compiled) <= 3


def test_a_subject_is_the_same_in_any_company():
    alone = traits(jnp.array([5], jnp.uint32))
    crowd = traits(jnp.arange(7, dtype=jnp.uint32))
    for path in TRAIT_SPREADS:
        np.testing.assert_allclose(get_leaf(alone, path)[0], get_leaf(crowd, path)[5], rtol=1e-6)
    other = traits(jnp.arange(7, dtype=jnp.uint32), jnp.uint32(4))
    assert not np.allclose(get_leaf(other, "clearance"), get_leaf(crowd, "clearance"))


def test_a_shift_moves_the_mean_in_spreads():
    subjects = jnp.arange(4, dtype=jnp.uint32)
    moved = traits(subjects, shifts={"plasticity.susceptibility": 2.0})
    ratio = get_leaf(moved, "plasticity.susceptibility") / get_leaf(traits(subjects), "plasticity.susceptibility")
    np.testing.assert_allclose(ratio, np.exp(2 * TRAIT_SPREADS["plasticity.susceptibility"]), rtol=1e-5)
    with pytest.raises(ValueError, match="susceptability"):
        traits(subjects, shifts={"susceptability": 1.0})


@pytest.mark.slow
def test_draws_agree_whatever_their_size():
    small, large = draw(depressed(), 3, seed=2, first=4, plan=PLAIN), draw(depressed(), 9, seed=2, plan=PLAIN)
    for one, other in zip(jax.tree.leaves(small.state), jax.tree.leaves(large.state), strict=True):
        np.testing.assert_allclose(one, other[4:7], rtol=1e-5, atol=1e-6)


def test_indexing_keeps_subjects_whole():
    people = draw(healthy(), 5, seed=1, plan=PLAIN)
    chosen = people[np.array([True, False, False, True, False])]
    assert len(chosen) == 2
    assert chosen.subject.tolist() == [0, 3]
    assert people[2].subject.tolist() == [2]
    np.testing.assert_array_equal(people[1:3].parameters.clearance, people.parameters.clearance[1:3])


def test_no_subjects_is_an_error():
    with pytest.raises(ValueError, match="subjects=0"):
        draw(healthy(), 0)


def test_correlations_make_a_covariance():
    assert np.linalg.eigvalsh(cohorts._trait_cholesky() @ cohorts._trait_cholesky().T).min() > 0.1
