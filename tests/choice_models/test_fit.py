"""The fit of choices: derivatives, recovery with honest intervals, what cannot be seen, and real people."""

import dataclasses
import os
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from choosers import MEAN, NAMES, SPREAD
from gradient_check import check
from scipy.integrate import nquad

from habenula.circuit.behaviour import choices, effort, effort_tasks
from habenula.circuit.behaviour.effort import Preferences
from habenula.circuit.choice_models import empirical_bayes, identifiability, marginal_likelihood
from habenula.circuit.choice_models import fit as choice_fit
from habenula.circuit.choice_models.fit import fit_choices
from habenula.circuit.choice_models.marginal_likelihood import ChoicePopulation, QuadratureNodes
from habenula.circuit.simulation import decisions
from habenula.circuit.study.commands import fit_choices as fit_choices_table


def people(subjects: int, seed: int = 0):
    """Simulated people in the staircases, and their true preferences (preference, subject)."""
    true = MEAN[:, None] + SPREAD[:, None] * np.random.default_rng(seed).normal(size=(3, subjects))
    own = Preferences(*(jnp.asarray(each) for each in true))
    return effort_tasks.run_task(effort_tasks.staircases(), own, seed=seed), true


def offers_of(made, names=NAMES):
    return marginal_likelihood.make_choice_design(names, made, effort.effort_constants())


def shared(early, felt):
    """What people share, after the mean and the root of a population."""
    return [jnp.asarray(each, float) for each in (early, felt, 0.6, 2.3, -4.0)]


@pytest.fixture(scope="module")
def recovered():
    made, true = people(300)
    return made, true, fit_choices(made)


def test_the_marginal_likelihood_against_an_integrator(float64):
    made, _ = people(1)
    made = dataclasses.replace(made, known=made.known & (np.arange(64) % 4 == 0))
    offers = offers_of(made, ("bias", "effort"))
    root = np.array([[1.5, 0.0], [0.4, 0.8]])
    number = lambda value: jnp.asarray(value, float)
    population = ChoicePopulation(number([0.5, 1.2]), number(root), *shared([1.0, 0.5], [-0.2, 0.1]))
    places = QuadratureNodes(number([[0.5, 1.2]]), number(root[None]))
    look = jax.jit(marginal_likelihood.e_step, static_argnums=3)
    for _ in range(4):
        places = look(population, offers, places, 15).places
    alone = jax.tree.map(lambda leaf: leaf[0], offers)
    inside = jax.jit(lambda own: marginal_likelihood.choice_log_likelihood(own, population, alone))
    inverse = np.linalg.inv(root @ root.T)

    def density(bias, weight):
        apart = np.array([bias, weight]) - np.array([0.5, 1.2])
        normal = np.exp(-0.5 * apart @ inverse @ apart) / (2 * np.pi * np.linalg.det(root))
        return float(jnp.exp(inside(jnp.asarray([bias, weight])))) * normal

    expected = nquad(density, [(-9, 10), (-4, 7)], opts={"epsrel": 1e-4, "epsabs": 0, "limit": 30})[0]
    assert float(marginal_likelihood.log_marginal_likelihood(population, offers, places, 15)[0]) == pytest.approx(
        np.log(expected), abs=2e-3
    )
    assert float(marginal_likelihood.log_marginal_likelihood(population, offers, places, 5)[0]) == pytest.approx(
        np.log(expected), abs=2e-2
    )


def test_derivatives_of_the_objective(float64):
    made, _ = people(5)
    offers, number = offers_of(made), lambda value: jnp.asarray(value, float)
    root = number([[2.0, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.2, 0.4, 1.1]])
    population = ChoicePopulation(number(MEAN), root, *shared([1.0, 0.4, 0.8], [0.2, 0.3, -0.2, 0.1]))
    places = QuadratureNodes(jnp.tile(number(MEAN), (5, 1)), 0.5 * jnp.tile(root, (5, 1, 1)))
    weights = number([1.0, -0.7, 0.6, 1.3, -0.4])
    # Above the diagonal a Cholesky factor has no entries, so the root is perturbed below it only.
    at = lambda q: eqx.tree_at(lambda q: q.root, q, jnp.tril(q.root))
    check(lambda q: (weights * marginal_likelihood.log_marginal_likelihood(at(q), offers, places, 4)).sum(), population)


def test_the_score_and_the_information_are_derivatives_of_the_marginal_likelihood(float64):
    """In units of the spread. The information expects choices, so it is their Hessian only on the mean over many people."""
    made, _ = people(150, seed=4)
    offers = offers_of(made)
    population, places = empirical_bayes.initialise_population(offers)
    seen = empirical_bayes.penalised_e_step(population, offers, places, 4)
    stride, length = empirical_bayes.initial_newton_step(seen), np.inf
    for _ in range(20):
        population, stride, length = empirical_bayes.take_newton_step(population, seen, stride)
        seen = empirical_bayes.penalised_e_step(population, offers, seen.places, 4)
    assert length < 1e-3
    lower = np.tril_indices(3)

    def moved(by):
        turn = jnp.eye(3).at[lower].add(by[3:9])
        at = (population.mean + population.root @ by[:3], population.root @ turn)
        to = marginal_likelihood.with_shared_parameters(
            population, marginal_likelihood.shared_parameters(population) + by[9:]
        )
        return marginal_likelihood.log_marginal_likelihood(
            eqx.tree_at(lambda q: (q.mean, q.root), to, at), offers, seen.places, 4
        ).sum()

    score, hessian = jax.jit(lambda by: (jax.grad(moved)(by), jax.jacfwd(jax.grad(moved))(by)))(jnp.zeros(19))
    prior, now = empirical_bayes.shared_prior(population), marginal_likelihood.shared_parameters(population)
    score = score.at[9:].add(-(now - prior[:, 0]) / prior[:, 1] ** 2)
    np.testing.assert_allclose(seen.score, score, atol=1e-8 * float(jnp.abs(score).max()) + 1e-6)
    known = np.diag(np.concatenate([np.zeros(9), prior[:, 1] ** -2]))
    errors = [np.sqrt(np.diag(np.linalg.inv(each))) for each in (seen.complete - seen.missing, known - hessian)]
    print(*errors, sep="\n")
    np.testing.assert_allclose(*errors, rtol=0.1)


@pytest.mark.parametrize("subjects", [2, 12])
def test_few_people_have_errors_or_a_reason(subjects):
    """Fewer than the population has numbers."""
    fit = fit_choices(people(subjects, seed=1)[0])
    assert fit.converged or subjects == 2, "two people leave a ridge along which hardly anything is to be gained"
    for name, spread in fit.population.items():
        ends = np.array([spread.low, spread.high, spread.sd_error])
        assert not np.isnan(ends[2])
        told = np.isfinite(ends).all() and not (name == "lapse" and tuple(ends[:2]) == (0, 1))
        lost = [word for word, end in (("mean", spread.high), ("spread", spread.sd_error)) if np.isinf(end)]
        words = f"its {' and '.join(lost)}" if name in NAMES else "it"
        assert told == (spread.reason == "")
        assert told or spread.reason.endswith(f"the choices of {subjects} people do not tell {words}")


def test_what_is_missing_along_a_direction_is_infinite_where_it_counts():
    complete, missing = np.diag([4.0, 9.0, 1.0]), np.diag([0.0, 9.0, 0.5])
    of = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0.01, 0]])
    np.testing.assert_allclose(choice_fit._standard_errors(complete, missing, of), [0.5, np.inf, 1.5, 0.5])
    assert np.isinf(choice_fit._standard_errors(complete * np.nan, missing, of)).all()


@pytest.mark.slow
def test_intervals_of_the_population_hold_with_forty_people():
    held, repeats = {}, 60
    for seed in range(repeats):
        fit = fit_choices(people(40, seed=1000 + seed)[0])
        for i, name in enumerate(NAMES):
            found = fit.population[name]
            held.setdefault(name, []).append(found.low < MEAN[i] < found.high)
            held.setdefault(f"sd of {name}", []).append(abs(found.sd - SPREAD[i]) < 1.96 * found.sd_error)
    share = {name: float(np.mean(each)) for name, each in held.items()}
    print(share)
    for name, each in share.items():
        assert abs(each - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repeats), name


def test_levels_may_be_in_any_unit():
    """Per cent of the greatest force and cents: the same people, with weights per per cent and per cent."""
    made, _ = people(40, seed=2)
    cents = dataclasses.replace(made, effort=20 * made.effort * made.known, reward=(10 * made.reward - 5) * made.known)
    one, other = fit_choices(made), fit_choices(cents)
    assert (one.reference, other.reference) == ({"reward": 2.5, "effort": 2.5}, {"reward": 20.0, "effort": 50.0})
    unit = np.array([1, 1 / 10, 1 / 20])
    np.testing.assert_allclose(other.covariance, one.covariance * np.outer(unit, unit), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(other.correlation, one.correlation, atol=1e-4)
    np.testing.assert_allclose(other.predicted, one.predicted, atol=1e-4)
    for i, name in enumerate(NAMES):
        for of in ("raw", "shrunk"):
            before, after = (vars(getattr(fit, of)[name]) for fit in (one, other))
            for each in ("value", "error"):
                np.testing.assert_allclose(after[each], unit[i] * before[each], rtol=1e-3, atol=1e-3 * unit[i])
        for was, now in ((name, name), (f"early_{name}", f"early_{name}")):
            before, after = one.population[was], other.population[now]
            for each in ("mean", "sd", "low", "high", "sd_error"):
                expected = pytest.approx(unit[i] * getattr(before, each), rel=1e-3, abs=1e-3 * unit[i])
                assert getattr(after, each) == expected, (name, each)
        assert other.identifiable[name].error == pytest.approx(unit[i] * one.identifiable[name].error, rel=1e-5)
        assert other.reliability[name] == pytest.approx(one.reliability[name], rel=1e-3)
    assert other.population["effort_40"].mean == pytest.approx(20 * one.population["effort_2"].mean, rel=1e-3)
    assert other.population["reward_25"].high == pytest.approx(10 * one.population["reward_3"].high - 5, rel=1e-3)


def test_the_bias_is_read_where_it_is_asked_for():
    """At an offer of one's own among the levels, to which the bias at another leads along the weights."""
    made, _ = people(40, seed=2)
    p = eqx.tree_at(
        lambda p: (p.reference_effort, p.reference_reward),
        effort.effort_constants(),
        (jnp.asarray(3.0), jnp.asarray(2.0)),
    )
    one, other = fit_choices(made), fit_choices(made, constants=p)
    assert other.reference == {"reward": 2.0, "effort": 3.0}
    mean = {name: one.population[name].mean for name in NAMES}
    expected = mean["bias"] - 0.5 * mean["reward"] - 0.5 * mean["effort"]
    assert other.population["bias"].mean == pytest.approx(expected, abs=0.02)


def test_true_preferences_are_recovered(recovered):
    made, true, fit = recovered
    assert fit.converged
    for i, name in enumerate(NAMES):
        shrunk = np.corrcoef(true[i], fit.shrunk[name].value)[0, 1]
        ceiling = np.sqrt(fit.reliability[name])
        assert shrunk > 0.88, (name, shrunk)
        assert abs(np.arctanh(shrunk) - np.arctanh(ceiling)) < 6 / np.sqrt(len(made)), "what reliability promises"
        assert np.corrcoef(true[i], fit.raw[name].value)[0, 1] < shrunk + 0.02, "the population's help does no harm"


def test_the_population_is_recovered(recovered):
    _made, true, fit = recovered
    for i, name in enumerate(NAMES):
        found = fit.population[name]
        assert abs(found.mean - true[i].mean()) < 4 * (found.high - found.low) / 4
        assert abs(found.sd - true[i].std()) < 5 * found.sd_error
    p = effort.effort_constants()
    known = [name for name in vars(p) if name in fit.population]
    assert len(known) == 10
    for name in known:  # within four standard errors
        found = fit.population[name]
        width = (found.high - found.low) / 4
        assert found.low - 2 * width < float(getattr(p, name)) < found.high + 2 * width, name


def test_intervals_hold_the_truth(recovered):
    _, true, fit = recovered
    held = np.array([(fit.shrunk[n].low < true[i]) & (true[i] < fit.shrunk[n].high) for i, n in enumerate(NAMES)])
    assert 0.90 <= held.mean() <= 0.98, held.mean(axis=1)


def test_a_weight_that_no_offer_shows_is_named_before_the_fit(recovered):
    made = recovered[0]
    flat = dataclasses.replace(made, reward=np.full_like(made.reward, 2.0))
    verdicts = identifiability.assess_identifiability(flat, effort.effort_constants())
    assert not verdicts["reward"].identifiable
    assert verdicts["reward"].reason == "reward is the same in every offer"
    assert np.isinf(verdicts["reward"].error)
    assert verdicts["bias"].identifiable
    assert verdicts["effort"].identifiable
    tied = dataclasses.replace(made, effort=made.reward)
    verdicts = identifiability.assess_identifiability(tied, effort.effort_constants())
    assert verdicts["effort"].reason == "effort follows from reward in every offer"


def test_who_accepts_everything_leans_on_the_population(recovered):
    made, _, fit = recovered
    share = (made.accepted * made.known).sum(axis=1) / made.known.sum(axis=1)
    one_sided = int(((share == 0) | (share == 1)).sum())
    assert fit.status.count("one-sided") == one_sided
    assert fit.identifiable["bias"].subjects == len(made) - one_sided
    assert fit.status.count("fitted") == len(made) - one_sided


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"known": False}, "no choice was made: every trial is missed."),
        ({"accepted": 1.0}, "all 128 choices are 1: there is no preference to be seen in them."),
    ],
)
def test_nothing_to_fit_is_refused(change, says):
    made, _ = people(2)
    change = {name: np.full_like(getattr(made, name), value) for name, value in change.items()}
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        fit_choices(dataclasses.replace(made, **change))


def test_one_subject_is_no_population():
    with pytest.raises(ValueError, match="1 subject: a population has at least 2"):
        fit_choices(people(1)[0])
    with pytest.raises(ValueError, match="rounds=0 must be at least 1"):
        fit_choices(people(2)[0], rounds=0)


def test_progress_is_told():
    heard = []
    fit = fit_choices(people(300)[0], rounds=3, progress=lambda done, most: heard.append((done, most)))
    assert heard == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert fit.rounds == 3
    assert not fit.converged


def test_levels_between_the_ends_feel_like_what_they_are_where_there_are_many():
    np.testing.assert_array_equal(marginal_likelihood.inner_levels(np.array([1, 4, 3, 2, 2])), [2, 3])
    assert marginal_likelihood.inner_levels(np.array([1.0, 1.0])).size == 0
    assert marginal_likelihood.inner_levels(np.linspace(0, 1, marginal_likelihood.MAX_INNER_LEVELS + 3)).size == 0


def correlations(true, fit):
    return {
        name: [float(np.corrcoef(true[i], by[name].value)[0, 1]) for by in (fit.raw, fit.shrunk)]
        for i, name in enumerate(NAMES)
    }


@pytest.mark.slow
def test_a_thousand_people_with_mixed_choices():
    made, true = people(1000, seed=7)
    before = time.perf_counter()
    fit = fit_choices(made)
    took = time.perf_counter() - before
    print(f"{took:.1f} s, {fit.rounds} rounds; raw, shrunk:", correlations(true, fit))
    assert took < 60, "on two cores, compilation included"
    for _raw, shrunk in correlations(true, fit).values():
        assert shrunk >= 0.9


@pytest.mark.slow
def test_a_thousand_people_like_those_of_the_published_choices():
    """Most of them accept nearly everything: what 64 choices can tell is `reliability`, and no estimate passes its root."""
    own = decisions.draw_preferences(1000, seed=7)
    true = np.stack([np.asarray(getattr(own, name), float) for name in NAMES])
    made = effort_tasks.run_task(effort_tasks.staircases(), own, seed=7)
    fit = fit_choices(made)
    print(f"{fit.rounds} rounds; raw, shrunk:", correlations(true, fit), "reliability:", fit.reliability)
    for name, (_raw, shrunk) in correlations(true, fit).items():
        assert abs(np.arctanh(shrunk) - np.arctanh(np.sqrt(fit.reliability[name]))) < 6 / np.sqrt(1000)
    held = np.array([(fit.shrunk[n].low < true[i]) & (true[i] < fit.shrunk[n].high) for i, n in enumerate(NAMES)])
    print("95 % intervals hold", held.mean(axis=1))
    assert 0.90 <= held.mean() <= 0.98


# ---------------------------------------------------------------- real people


@pytest.fixture(scope="module")
def mehrhof():
    """479 people (Mehrhof & Nord 2024), their scores and their fit; the data are not part of the project."""
    folder = Path(os.environ.get("HABENULA_DATA", Path(__file__).parents[2] / "shared" / "data")) / "mehrhof_effort"
    if not folder.is_dir():
        pytest.skip(f"no published choices at {folder}")
    made = choices.read_choices(folder / "trials.csv.gz")
    return made, choices.read_scores(folder / "subjects.csv", made.subject), fit_choices(made)


def hierarchical_logistic(made, rounds: int = 30):
    """Log-likelihood per trial of a logistic regression with normal random effects, by penalised least squares."""
    design = identifiability.design_matrix(made, effort.effort_constants())
    mean, covariance = np.array([2.0, 1.0, 1.0]), np.eye(3) * 4
    curve = np.eye(3)
    own = np.tile(mean, (len(made), 1))
    for _ in range(rounds):
        precision = np.linalg.inv(covariance)
        for _ in range(10):
            p = 1 / (1 + np.exp(-np.einsum("stk,sk->st", design, own)))
            slope = np.einsum("stk,st->sk", design, made.accepted - p) - (own - mean) @ precision
            curve = np.einsum("stk,stl,st->skl", design, design, p * (1 - p)) + precision
            move = np.linalg.solve(curve, slope[..., None])[..., 0]
            own = own + move / np.maximum(1, np.abs(move).max(axis=1, keepdims=True) / 2)
        mean = own.mean(axis=0)
        covariance = (np.linalg.inv(curve) + (own - mean)[:, :, None] * (own - mean)[:, None, :]).mean(axis=0)
    logit = np.einsum("stk,sk->st", design, own)
    return -np.logaddexp(0, -(2 * made.accepted - 1) * logit).mean()


@pytest.mark.slow
def test_real_people_are_fitted_no_worse_than_by_hierarchical_logistic_regression(mehrhof):
    made, _, fit = mehrhof
    assert (len(made), made.trials) == (479, 30656)
    assert fit.converged
    ours = fit.log_likelihood.sum() / made.trials
    print("per trial", ours, "hierarchical logistic", hierarchical_logistic(made))
    assert ours > hierarchical_logistic(made)
    assert ours > -0.200


@pytest.mark.slow
def test_every_cell_of_first_offers_is_predicted_to_three_percent(mehrhof):
    made, _, fit = mehrhof
    cells = fit_choices_table.cells(made, fit.predicted)
    assert len(cells) == 16
    print("worst cell", max(abs(cell.predicted - cell.observed) for cell in cells))
    assert max(abs(cell.predicted - cell.observed) for cell in cells) <= 0.03


@pytest.mark.slow
def test_the_slope_of_the_bias_on_anhedonia_agrees_with_the_published_one(mehrhof):
    """-.20 logit per s.d., and none of the weights (Mehrhof & Nord 2024, 958 people).

    Half of them cannot tell it from 0: a correlation of -.08 between score and bias, with an error of .055.
    """
    _, scores, fit = mehrhof
    found = {each.preference: each for each in fit_choices_table.relations(fit, {"shaps": scores["shaps"]})}
    print(*found.values(), sep="\n")
    assert found["bias"].low < -0.20 < found["bias"].high
    for name in NAMES:
        assert found[name].low < 0 < found[name].high
