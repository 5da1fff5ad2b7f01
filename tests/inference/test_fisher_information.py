"""The arrow of information against the dense matrix that it stands for."""

import numpy as np
import pytest

from habenula.circuit.inference.fisher_information import (
    marginal_information,
    posterior_covariance,
    solve_information_system,
)

SUBJECTS = 4
SHARED = {"own": [False, False], "shared": [True, True], "both": [False, True, False, True]}


def arrow(shared):
    """Random information of every subject, and the dense matrix over (own of all subjects, shared)."""
    numbers, generator = len(shared), np.random.default_rng(0)
    half = generator.normal(size=(1, SUBJECTS, numbers, numbers + 1))
    blocks = half @ np.swapaxes(half, -1, -2)
    prior = np.linspace(0.5, 2.0, numbers)
    own, common = np.flatnonzero(~shared), np.flatnonzero(shared)
    place = lambda i, k: SUBJECTS * len(own) + list(common).index(k) if shared[k] else i * len(own) + list(own).index(k)
    size = SUBJECTS * len(own) + len(common)
    dense = np.zeros((size, size))
    for i in range(SUBJECTS):
        for k in range(numbers):
            for m in range(numbers):
                dense[place(i, k), place(i, m)] += blocks[0, i, k, m]
    for k in range(numbers):
        for i in range(SUBJECTS if not shared[k] else 1):
            dense[place(i, k), place(i, k)] += prior[k]
    return blocks, prior, dense, place


@pytest.mark.parametrize("name", SHARED)
def test_a_solve_is_that_of_the_dense_matrix(name):
    shared = np.array(SHARED[name])
    blocks, prior, dense, place = arrow(shared)
    right = np.random.default_rng(1).normal(size=(1, SUBJECTS, len(shared)))
    flat = np.zeros(len(dense))
    for i in range(SUBJECTS):
        for k in range(len(shared)):
            flat[place(i, k)] += right[0, i, k]
    expected = np.linalg.solve(dense, flat)
    found = solve_information_system(blocks, prior, shared, right, np.zeros((1, SUBJECTS)))
    for i in range(SUBJECTS):
        for k in range(len(shared)):
            np.testing.assert_allclose(found[0, i, k], expected[place(i, k)], rtol=1e-9)


@pytest.mark.parametrize("name", SHARED)
def test_a_covariance_is_that_of_the_dense_matrix(name):
    shared = np.array(SHARED[name])
    blocks, prior, dense, place = arrow(shared)
    expected, found = np.linalg.inv(dense), posterior_covariance(blocks, prior, shared)
    for i in range(SUBJECTS):
        where = [place(i, k) for k in range(len(shared))]
        np.testing.assert_allclose(found[0, i], expected[np.ix_(where, where)], rtol=1e-9)


def test_information_about_what_is_shared_leaves_out_its_prior():
    shared = np.array(SHARED["both"])
    blocks, prior, dense, place = arrow(shared)
    where = [place(0, k) for k in np.flatnonzero(shared)]
    expected = np.linalg.inv(np.linalg.inv(dense)[np.ix_(where, where)]) - np.diag(prior[shared])
    np.testing.assert_allclose(marginal_information(blocks, prior, shared)[0], expected, rtol=1e-9)


def test_damping_shortens_a_step():
    shared = np.array(SHARED["both"])
    blocks, prior, _, _ = arrow(shared)
    right = np.ones((1, SUBJECTS, len(shared)))
    free, held = (solve_information_system(blocks, prior, shared, right, np.full((1, 1), by)) for by in (0.0, 1e6))
    assert abs(held).max() < 1e-4 * abs(free).max()
