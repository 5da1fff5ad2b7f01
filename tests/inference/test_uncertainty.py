"""Profiles and designs against closed forms, and intervals against the truth."""

import jax.numpy as jnp
import numpy as np
import pytest
import straight
from people import strained

from habenula.circuit.inference import fisher_scoring, uncertainty
from habenula.circuit.inference.fisher_scoring import run_fisher_scoring
from habenula.circuit.inference.free_parameters import with_values
from habenula.circuit.inference.observations import Gaussian, Observed, simulate_observations
from habenula.circuit.inference.recover import draw_starting_points, recover
from habenula.circuit.inference.result import summarise_recovery
from habenula.circuit.inference.uncertainty import design, profile
from habenula.circuit.model.interventions import Ketamine


@pytest.fixture(params=["subject", "shared"])
def found(request, monkeypatch):
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood())
    monkeypatch.setattr(uncertainty, "compute_likelihood", straight.likelihood())
    truth = np.array([[-1.0, -0.7]]) * np.ones((4, 1))
    values = truth @ straight.SLOPES + straight.SD * np.random.default_rng(0).normal(size=(4, 4))
    question = straight.question(values, dict.fromkeys(straight.OVER, request.param))
    return summarise_recovery(question, run_fisher_scoring(question, draw_starting_points(question, 1, 0), steps=20))


def test_the_profile_of_a_normal_likelihood_is_a_parabola(found):
    """Its own prior left out, that of the other number kept."""
    together = found.question.shared.all()
    seen = profile(found, "synapses.everyday", points=41, width=4.0)
    information = found.information.sum(axis=0)[None] if together else found.information
    blocks = information.copy()
    blocks[:, 0, 0] += 1 / found.prior[1][0] ** 2
    precision = 1 / np.linalg.inv(blocks)[:, 1, 1]
    free = np.log(seen.values)
    best = np.take_along_axis(free, np.argmin(seen.drop, axis=0)[None], axis=0)
    assert seen.drop.shape == (41, 1 if together else 4)
    curvature = np.polynomial.polynomial.polyfit(free[:, 0] - best[0, 0], seen.drop[:, 0], 2)[2]
    assert curvature == pytest.approx(precision[0] / 2, rel=1e-2)
    np.testing.assert_allclose(np.log(seen.high / seen.low), 2 * 1.96 / np.sqrt(precision), rtol=2e-2)


def test_a_profile_that_does_not_fall_has_no_end(found):
    seen = profile(found, "mg_per_kg", points=3, width=0.1)
    assert np.isneginf(seen.low).all()
    assert np.isposinf(seen.high).all()


def test_a_design_is_the_fisher_gain_of_each_measurement(found):
    planned = Observed("vta_output", straight.DAYS, Gaussian(straight.SD))
    gains = design(found, "mg_per_kg", [planned])
    assert [gain.shrinks for gain in gains] == sorted((gain.shrinks for gain in gains), reverse=True)
    together = found.question.shared.all()
    information = found.information.sum(axis=0) if together else found.information[0]
    prior = np.diag(1 / np.square(found.prior[1]))
    sd = lambda matrix: np.sqrt(np.linalg.inv(matrix + prior)[0, 0])
    for gain in gains:
        along = straight.SLOPES[:, straight.DAYS.index(gain.day)] / straight.SD
        more = np.outer(along, along) * (4 if together else 1)
        assert gain.shrinks == pytest.approx(1 - sd(information + more) / sd(information), rel=1e-3)


def test_names_that_were_not_recovered_are_refused(found):
    with pytest.raises(ValueError, match=r"'dose' was not recovered; choose from mg_per_kg, synapses.everyday"):
        profile(found, "dose")
    with pytest.raises(ValueError, match="points=2 must be at least 3"):
        profile(found, "mg_per_kg", points=2)
    with pytest.raises(ValueError, match="cannot observe 'vta'"):
        design(found, "mg_per_kg", [Observed("vta", 1, Gaussian(1.0))])


@pytest.mark.nightly
def test_intervals_hold_what_they_promise():
    """200 recoveries, each a lane of one run, of truths drawn from the prior: 95 % intervals hold 90 to 98 % of them."""
    count, hours = 200, (3 / 24, 6 / 24, 0.5, 1.0, 2.0)
    generator = np.random.default_rng(4)
    logistic = lambda u: 2 / (1 + np.exp(-u))
    people, _ = with_values(strained(count), (), {"clearance": 1.0})
    prior = {"mg_per_kg": (0.6, 0.5), "clearance": (1.0, 0.3)}
    dose = logistic(np.log(0.3 / 0.7) + 0.5 * generator.normal(size=(1, count)))
    clearance = np.exp(0.3 * generator.normal(size=count))
    given = (Ketamine(np.full((1, count), 0.6), 0.0),)
    lived, arm = with_values(people, given, {"mg_per_kg": jnp.asarray(dose), "clearance": jnp.asarray(clearance)})
    planned = [Observed("block", hours, Gaussian(0.03)), Observed("vta_output", hours, Gaussian(0.3))]
    data = simulate_observations(lived, arm, planned, seed=6)
    over = dict.fromkeys(prior, "subject")
    found = recover(people, given, data, over, prior=prior, everyday="known", starts=2)
    for name, true in {"mg_per_kg": dose, "clearance": clearance}.items():
        held = ((found.low[name] < true) & (true < found.high[name])).mean()
        assert 0.90 <= held <= 0.98, (name, held)
