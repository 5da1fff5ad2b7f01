"""A trial in pieces is the trial in one: the same figures, in the memory of a piece."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from habenula.circuit.study.commands import trial
from habenula.kernels import Plan

SUBJECTS, WEEKS = 40, 1
PLAN = Plan("tiled", tile=16, devices=2)


@pytest.fixture(scope="module")
def lived():
    """Arms, target and first subjects, by the most subjects in a piece; and what was reported."""
    chosen = trial.check_arms(SUBJECTS, WEEKS, ["placebo", "ssri"])
    how = dataclasses.replace(next(iter(trial.forecast_arms(chosen, SUBJECTS, WEEKS, 2).values())), plan=PLAN)
    found, told = {}, {}
    for most in (SUBJECTS, 32):
        told[most] = []
        report = partial(lambda kept, *words: kept.append(words), told[most])
        found[most] = trial._simulate_chunk(chosen, SUBJECTS, WEEKS, 3, dataclasses.replace(how, chunk=most), report)
    return found, told


@pytest.mark.slow
def test_figures_of_a_trial_in_pieces(lived):
    (whole, target, first), (pieces, target_pieces, first_pieces) = lived[0].values()
    assert target_pieces == pytest.approx(target, rel=1e-6)
    np.testing.assert_array_equal(first_pieces.subject, first.subject)
    assert len(first) == trial.FIT_SUBJECTS
    assert list(whole) == list(pieces) == ["placebo", "ssri"]
    for name, arm in whole.items():
        assert arm.day[0] == 0
        assert len(arm.day) == 7 * 24 // trial.TRIAL_SAVE_EVERY + 1 == len(arm.vta_low)
        for quantity, values in arm.mean.items():
            np.testing.assert_allclose(pieces[name].mean[quantity], values, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(pieces[name].vta_low, arm.vta_low, rtol=1e-5)
        np.testing.assert_allclose(pieces[name].restored, arm.restored, atol=1e-9)
        assert (arm.vta_low < arm.mean["vta_output"]).all()


@pytest.mark.slow
def test_the_healthy_are_the_reference(lived):
    arms, target, _ = lived[0][SUBJECTS]
    assert 3 < target < 6  # Hz
    assert (arms["placebo"].mean["vta_output"] < 1).all(), "depressed subjects, relative to it"


@pytest.mark.slow
def test_progress_comes_to_its_end(lived):
    for most, pieces in ((SUBJECTS, 1), (32, 2)):
        told = lived[1][most]
        assert ("arms", 3 * pieces, 3 * pieces) in told
        assert ("cohort", 2 * pieces, 2 * pieces) in told
