"""Recovering hidden numbers: the search against closed forms, then the circuit itself on a small cohort."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import straight
from people import strained

from habenula.circuit.inference import fisher_scoring
from habenula.circuit.inference.fisher_scoring import run_fisher_scoring
from habenula.circuit.inference.free_parameters import with_values
from habenula.circuit.inference.likelihood import log_density, recovery_problem
from habenula.circuit.inference.observations import Binomial, Gaussian, Observed, simulate_observations
from habenula.circuit.inference.recover import draw_starting_points, identifiable, recover
from habenula.circuit.inference.result import summarise_recovery
from habenula.circuit.model.interventions import Ketamine, Recalibration
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course


def fitted(question, steps=30, starts=2, **options):
    return summarise_recovery(
        question, run_fisher_scoring(question, draw_starting_points(question, starts, 0), steps=steps, **options)
    )


def drawn(subjects, truth, seed=0):
    """Observations of subjects with free numbers `truth` (subject, number)."""
    noise = np.random.default_rng(seed).normal(size=(subjects, 4))
    return truth @ straight.SLOPES + straight.SD * noise


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood())


@pytest.mark.usefixtures("lines")
def test_each_subject_comes_to_its_own_posterior():
    values = drawn(5, np.array([[-1.0, -0.7]]) * np.ones((5, 1)))
    values[1, 2] = values[3, :3] = np.nan
    question = straight.question(values)
    belief = question.problem.belief
    mean, covariance = straight.posterior(values, np.asarray(belief.centre).T, np.asarray(belief.spread))
    found = fitted(question)
    np.testing.assert_allclose(found.free, mean, atol=1e-4)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-4)
    assert found.status == "converged", found.reason
    assert found.steps < 30


@pytest.mark.usefixtures("lines")
def test_what_is_shared_is_found_from_all_subjects_at_once():
    values = drawn(5, np.array([[-1.0, -0.7]]) * np.ones((5, 1)))
    question = straight.question(values, over=("mg_per_kg", "synapses.everyday"))
    belief = question.problem.belief
    everyone = np.tile(straight.SLOPES, 5)
    one = straight.posterior([values.ravel()], np.asarray(belief.centre).T[:1], np.asarray(belief.spread), everyone)
    found = fitted(question)
    np.testing.assert_allclose(found.free, np.tile(one[0], (5, 1)), atol=1e-4)
    np.testing.assert_allclose(found.covariance[0], one[1][0], rtol=1e-4)
    assert found.estimates["mg_per_kg"].shape == (1,)
    assert found.estimates["synapses.everyday"].shape == ()


@pytest.mark.usefixtures("lines")
def test_intervals_follow_the_bijection():
    found = fitted(straight.question(drawn(3, np.array([[-1.0, -0.7]]) * np.ones((3, 1)))))
    sd = np.sqrt(found.covariance[:, 1, 1])
    centre = np.exp(found.free[:, 1])
    np.testing.assert_allclose(found.estimates["synapses.everyday"], centre, rtol=1e-5)
    np.testing.assert_allclose(found.errors["synapses.everyday"], centre * sd, rtol=1e-2)
    np.testing.assert_allclose(found.high["synapses.everyday"], centre * np.exp(1.96 * sd), rtol=1e-4)
    assert (found.low["mg_per_kg"] > 0).all()
    assert (found.high["mg_per_kg"] < 2).all()


@pytest.mark.usefixtures("lines")
def test_a_population_is_found_with_its_mean_and_spread():
    subjects, mean, spread = 300, -0.7, 0.4
    generator = np.random.default_rng(1)
    truth = np.stack([np.full(subjects, -1.1), mean + spread * generator.normal(size=subjects)], axis=1)
    over = {"mg_per_kg": "shared", "synapses.everyday": "population"}
    found = fitted(straight.question(drawn(subjects, truth), over))
    people = found.population["synapses.everyday"]
    own = np.sqrt(np.mean(found.covariance[:, 1, 1]))
    error = np.sqrt((spread**2 + own**2) / subjects)
    assert abs(np.log(people.mean) - mean) < 4 * error
    assert abs(people.spread - spread) < 4 * error
    assert np.log(people.low) < mean < np.log(people.high)
    np.testing.assert_allclose(np.log(people.high / people.low), 2 * 1.96 * error, rtol=0.1)
    shrunk, raw = (np.log(of["synapses.everyday"]).std() for of in (found.estimates, found.raw))
    assert shrunk < raw
    assert np.sqrt(np.mean(np.square(found.free[:, 1] - truth[:, 1]))) < np.sqrt(
        np.mean(np.square(np.log(found.raw["synapses.everyday"]) - truth[:, 1]))
    )


def test_who_is_not_finite_is_named_and_the_others_are_as_alone(monkeypatch):
    values = drawn(4, np.array([[-1.0, -0.7]]) * np.ones((4, 1)))
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood())
    whole = fitted(straight.question(values))
    second = lambda free: np.broadcast_to(np.arange(4) == 2, free.shape[1:])
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood(bad=second))
    found = fitted(straight.question(values))
    assert found.statuses == ("converged", "converged", "failed", "converged")
    assert {failure.subject for failure in found.failures} == {2}
    assert found.failures[0].step == 0
    assert (found.failures[0].direction, found.failures[0].term) == ("forward", "expected vta_output on day 1")
    assert "subject 2 first" in found.reason
    np.testing.assert_allclose(found.free[[0, 1, 3]], whole.free[[0, 1, 3]], atol=1e-4)
    assert np.isnan(found.log_likelihood[2])


def test_a_step_into_what_is_not_finite_is_taken_back(monkeypatch):
    values = drawn(3, np.array([[2.0, -0.7]]) * np.ones((3, 1)))
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood(bad=lambda free: free[0] > 0.5))
    found = fitted(straight.question(values), starts=1)
    assert (found.free[:, 0] <= 0.5).all()
    assert (found.free[:, 0] > 0.3).all()
    assert len(found.failures) == 3
    assert "mg_per_kg" in found.failures[0].replay


def test_what_the_data_cannot_see_is_named(monkeypatch):
    blind = np.array([[1.0, 0.5, -0.3, 0.2], [0.0, 0.0, 0.0, 0.0]])
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood(blind))
    question = straight.question(drawn(3, np.array([[-1.0, -0.7]]) * np.ones((3, 1))))
    assert identifiable(question)["synapses.everyday"] == pytest.approx(0, abs=1e-9)
    assert identifiable(question)["mg_per_kg"] > 0.9
    found = fitted(question)
    assert found.unseen == ("synapses.everyday",)
    assert "do not see synapses.everyday" in found.reason


def test_numbers_that_only_their_sum_shows_make_a_sloppy_direction(monkeypatch):
    confounded = np.array([[1.0, 0.5, -0.3, 0.2], [1.0, 0.5, -0.3, 0.2]])
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", straight.likelihood(confounded))
    options = {"prior": {"mg_per_kg": (0.5, 1.0), "synapses.everyday": (0.5, 1.0)}}
    found = fitted(straight.question(drawn(3, np.array([[-1.0, -0.7]]) * np.ones((3, 1))), **options))
    sloppy, stiff = found.directions
    assert sloppy.spread == pytest.approx(1.0, abs=1e-6)
    assert stiff.spread < 0.2
    assert sloppy.weights["mg_per_kg"] == pytest.approx(-sloppy.weights["synapses.everyday"], rel=1e-5)
    assert "mg_per_kg" in str(sloppy)


@pytest.mark.usefixtures("lines")
def test_a_schedule_slows_the_search_and_progress_counts_it():
    question, seen = straight.question(drawn(3, np.array([[-1.0, -0.7]]) * np.ones((3, 1)))), []
    begin = draw_starting_points(question, 1, 0)
    fast = run_fisher_scoring(question, begin, steps=1, progress=lambda *of: seen.append(of))
    slow = run_fisher_scoring(question, begin, steps=1, learning_rate=lambda step: 0.1)
    np.testing.assert_allclose(slow.free - begin, 0.1 * (fast.free - begin), atol=1e-5)
    assert seen == [(1, 1)]


HOURS = (6 / 24, 0.5, 1.0, 2.0)
PLANNED = [Observed("block", HOURS, Gaussian(0.02)), Observed("vta_output", HOURS, Gaussian(0.2))]
OVER = {"mg_per_kg": "shared", "clearance": "subject"}


@pytest.fixture(scope="module")
def recovered():
    """A dose hidden from the fit, and everyone's clearance, from two days after an infusion."""
    people = strained(6)
    data = list(simulate_observations(people, (Ketamine(0.8, 0.0),), PLANNED, seed=1))
    data[1] = eqx.tree_at(lambda o: o.value, data[1], data[1].value.at[2, 1:].set(jnp.nan))
    typical, arm = with_values(people, (Ketamine(0.4, 0.0),), {"clearance": 1.0})
    options = dict(prior={"clearance": (1.0, 0.3)}, everyday="known", starts=2, steps=12)
    return people, recover(typical, arm, data, OVER, **options)


def test_a_hidden_dose_is_recovered(recovered):
    people, found = recovered
    assert found.status == "converged", found.reason
    assert found.low["mg_per_kg"][0] < 0.8 < found.high["mg_per_kg"][0]
    assert found.seen["mg_per_kg"] > 0.9
    miss = np.log(found.estimates["clearance"] / np.asarray(people.parameters.clearance))
    assert (abs(miss) < 4 * np.sqrt(found.covariance[:, 1, 1])).all()
    assert found.arm[0].mg_per_kg == pytest.approx(found.estimates["mg_per_kg"])
    np.testing.assert_allclose(found.cohort.parameters.clearance, found.estimates["clearance"])


@pytest.mark.nightly
def test_the_log_density_has_its_mode_at_the_estimate(recovered):
    _, found = recovered
    density = log_density(found.question)
    at = {"mg_per_kg": jnp.asarray(found.free[0, :1]), "clearance": jnp.asarray(found.free[:, 1])}
    at = jax.tree.map(lambda of: of.astype(jnp.float32), at)
    value, slope = jax.value_and_grad(density.function)(at)
    assert value > density.function(density.initial)
    # A slope s with variance C leaves s' C s / 2 to be gained.
    assert float(slope["mg_per_kg"][0] ** 2 * found.covariance[0, 0, 0]) < 0.02
    assert (np.square(slope["clearance"]) * found.covariance[:, 1, 1] < 0.02).all()
    np.testing.assert_allclose(density.values(at)["mg_per_kg"], found.estimates["mg_per_kg"], rtol=1e-5)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*became non-finite:RuntimeWarning")
def test_a_failure_can_be_replayed():
    people = strained(4)
    rate = jnp.full(4, people.parameters.plasticity.kir_rate).at[2].set(3e38)
    broken = eqx.tree_at(lambda c: c.parameters.plasticity.kir_rate, people, rate)
    arm = (Ketamine(0.4, 0.0),)
    data = simulate_observations(people, arm, [Observed("mood", HOURS, Gaussian(0.1))])
    found = recover(broken, arm, data, {"mg_per_kg": "subject"}, everyday="known", starts=1, steps=2)
    assert found.statuses[2] == "failed"
    assert found.statuses.count("failed") == 1
    failure = found.failures[0]
    assert (failure.subject, failure.step) == (2, 0)
    lived = eval(failure.replay, {"course": course, "put": with_values, "cohort": broken, "arm": arm})
    assert lived.failures[0].quantity == "kir_shift"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, r"starts=0 and steps=40 must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"everyday": "noisy"}, "everyday='noisy' must be 'unknown' or"),
        ({"over": ("dose",)}, "'dose' is no leaf"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(monkeypatch, options, message):
    monkeypatch.setattr(fisher_scoring, "compute_likelihood", None)
    data = Observed("block", (1, 2), Binomial(), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=message):
        recover(strained(2), (Ketamine(),), data, **{"over": ("mg_per_kg",)} | options)


def test_a_dose_after_the_last_observation_is_refused():
    data = Observed("block", (1, 2), Binomial(), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="lies outside the course"):
        recovery_problem(strained(2), (Ketamine(0.5, 7.0),), data, ("mg_per_kg",))


HIDDEN = {"Ketamine[1].mg_per_kg": 0.3, "block.half_concentration": 1.0, "plasticity.depression_rate": 0.065}


@pytest.mark.nightly
def test_interventions_are_recovered_from_weekly_output_and_mood_at_the_nominal_rate():
    """Dose, potency and LTD rate of 200 subjects, other people and other noise each time, in 95 % intervals.

    Dose and potency of one drug are one number unless a dose is known: here that of an earlier infusion is.
    """
    days, repeats = tuple(range(7, 57, 7)), 20
    planned = [Observed("vta_output", days, Gaussian(0.3)), Observed("mood", days, Gaussian(0.1))]
    regimen = (Ketamine(0.5, 5.5), Ketamine(0.6, 19.5), Recalibration.weekly(9, 3, 28.0))
    z, held = {name: [] for name in HIDDEN}, {name: [] for name in HIDDEN}
    for seed in range(repeats):
        people = draw(depressed(), 200, seed=100 + seed)
        data = simulate_observations(*with_values(people, regimen, HIDDEN), planned, seed=seed)
        fresh, _ = with_values(people, regimen, {"plasticity.depression_rate": 0.0928})
        found = recover(fresh, regimen, data, tuple(HIDDEN), everyday="known", starts=1)
        assert found.status == "converged", found.reason
        assert not found.unseen
        for name, true in HIDDEN.items():
            of = (found.estimates, found.errors, found.low, found.high)
            estimate, error, low, high = (float(np.ravel(each[name])[0]) for each in of)
            assert error < 0.03 * true
            z[name].append((estimate - true) / error)
            held[name].append(low < true < high)
    for name in HIDDEN:
        print(
            f"{name}: {sum(held[name])} of {repeats}; z {np.mean(z[name]):+.2f} on the mean, s.d. {np.std(z[name], ddof=1):.2f}"
        )
        assert abs(np.mean(held[name]) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repeats)
        assert abs(np.mean(z[name])) < 4 / np.sqrt(repeats), "no bias"
