"""Hierarchical fit of choices: derivatives, recovery, interval coverage, identifiability, and published data."""

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
from habenula.circuit.choice_models import empirical_bayes, identifiability, marginal_likelihood, population_parameters
from habenula.circuit.choice_models.fit import fit_choices
from habenula.circuit.choice_models.marginal_likelihood import ChoicePopulation, QuadratureNodes
from habenula.circuit.simulation import decisions
from habenula.circuit.study.commands import fit_choices as fit_choices_table


def people(subjects: int, seed: int = 0):
    """Simulated people in the staircases, and their true preferences (preference, subject)."""
    true = MEAN[:, None] + SPREAD[:, None] * np.random.default_rng(seed).normal(size=(3, subjects))
    preferences = Preferences(*(jnp.asarray(values) for values in true))
    return effort_tasks.run_task(effort_tasks.staircases(), preferences, seed=seed), true


def design_of(made, names=NAMES):
    return marginal_likelihood.make_choice_design(names, made, effort.effort_constants())


def shared(early, level_shift):
    """Shared parameters, the fields of a population after its mean and Cholesky factor."""
    return [jnp.asarray(value, float) for value in (early, level_shift, 0.6, 2.3, -4.0)]


@pytest.fixture(scope="module")
def recovered():
    made, true = people(300)
    return made, true, fit_choices(made)


@pytest.mark.slow
def test_the_marginal_likelihood_against_an_integrator(float64):
    made, _ = people(1)
    made = dataclasses.replace(made, known=made.known & (np.arange(64) % 4 == 0))
    design = design_of(made, ("bias", "effort"))
    root = np.array([[1.5, 0.0], [0.4, 0.8]])
    number = lambda value: jnp.asarray(value, float)
    population = ChoicePopulation(number([0.5, 1.2]), number(root), *shared([1.0, 0.5], [-0.2, 0.1]))
    nodes = QuadratureNodes(number([[0.5, 1.2]]), number(root[None]))
    e_step = jax.jit(marginal_likelihood.e_step, static_argnums=3)
    for _ in range(4):
        nodes = e_step(population, design, nodes, 15).nodes
    one_subject = jax.tree.map(lambda leaf: leaf[0], design)
    log_likelihood = jax.jit(
        lambda preferences: marginal_likelihood.choice_log_likelihood(preferences, population, one_subject)
    )
    inverse = np.linalg.inv(root @ root.T)

    def density(bias, weight):
        deviation = np.array([bias, weight]) - np.array([0.5, 1.2])
        normal = np.exp(-0.5 * deviation @ inverse @ deviation) / (2 * np.pi * np.linalg.det(root))
        return float(jnp.exp(log_likelihood(jnp.asarray([bias, weight])))) * normal

    expected = nquad(density, [(-9, 10), (-4, 7)], opts={"epsrel": 1e-4, "epsabs": 0, "limit": 30})[0]
    assert float(marginal_likelihood.log_marginal_likelihood(population, design, nodes, 15)[0]) == pytest.approx(
        np.log(expected), abs=2e-3
    )
    assert float(marginal_likelihood.log_marginal_likelihood(population, design, nodes, 5)[0]) == pytest.approx(
        np.log(expected), abs=2e-2
    )


def test_derivatives_of_the_objective(float64):
    made, _ = people(5)
    design, number = design_of(made), lambda value: jnp.asarray(value, float)
    root = number([[2.0, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.2, 0.4, 1.1]])
    population = ChoicePopulation(number(MEAN), root, *shared([1.0, 0.4, 0.8], [0.2, 0.3, -0.2, 0.1]))
    nodes = QuadratureNodes(jnp.tile(number(MEAN), (5, 1)), 0.5 * jnp.tile(root, (5, 1, 1)))
    weights = number([1.0, -0.7, 0.6, 1.3, -0.4])
    # A Cholesky factor is zero above the diagonal, so only its lower triangle is perturbed.
    at = lambda q: eqx.tree_at(lambda q: q.cholesky, q, jnp.tril(q.cholesky))
    check(lambda q: (weights * marginal_likelihood.log_marginal_likelihood(at(q), design, nodes, 4)).sum(), population)


@pytest.mark.slow
def test_the_score_and_the_information_are_derivatives_of_the_marginal_likelihood(float64):
    """In scaled parameters. The information uses expected choices, so it is the Hessian only on average over people."""
    made, _ = people(150, seed=4)
    design = design_of(made)
    population, nodes = empirical_bayes.initialise_population(design)
    step = empirical_bayes.penalised_e_step(population, design, nodes, 4)
    last, largest = empirical_bayes.initial_newton_step(step), np.inf
    for _ in range(20):
        population, last, largest = empirical_bayes.take_newton_step(population, step, last)
        step = empirical_bayes.penalised_e_step(population, design, step.nodes, 4)
    assert largest < 1e-3
    lower = np.tril_indices(3)

    def log_marginal(by):
        factor = jnp.eye(3).at[lower].add(by[3:9])
        normal = (population.mean + population.cholesky @ by[:3], population.cholesky @ factor)
        shifted = marginal_likelihood.with_shared_parameters(
            population, marginal_likelihood.shared_parameters(population) + by[9:]
        )
        return marginal_likelihood.log_marginal_likelihood(
            eqx.tree_at(lambda q: (q.mean, q.cholesky), shifted, normal), design, step.nodes, 4
        ).sum()

    score, hessian = jax.jit(lambda by: (jax.grad(log_marginal)(by), jax.jacfwd(jax.grad(log_marginal))(by)))(
        jnp.zeros(19)
    )
    prior, now = empirical_bayes.shared_prior(population), marginal_likelihood.shared_parameters(population)
    score = score.at[9:].add(-(now - prior[:, 0]) / prior[:, 1] ** 2)
    np.testing.assert_allclose(step.score, score, atol=1e-8 * float(jnp.abs(score).max()) + 1e-6)
    prior_information = np.diag(np.concatenate([np.zeros(9), prior[:, 1] ** -2]))
    observed = step.complete_information - step.missing_information
    errors = [np.sqrt(np.diag(np.linalg.inv(information))) for information in (observed, prior_information - hessian)]
    print(*errors, sep="\n")
    np.testing.assert_allclose(*errors, rtol=0.1)


@pytest.mark.parametrize("subjects", [2, 12])
def test_few_people_have_errors_or_a_reason(subjects):
    """Fewer people than the population has parameters."""
    fit = fit_choices(people(subjects, seed=1)[0])
    assert fit.converged or subjects == 2, "with two people the likelihood has a ridge along which it hardly rises"
    for name, spread in fit.population.items():
        ends = np.array([spread.low, spread.high, spread.sd_error])
        assert not np.isnan(ends[2])
        determined = np.isfinite(ends).all() and not (name == "lapse" and tuple(ends[:2]) == (0, 1))
        unknown = [word for word, end in (("mean", spread.high), ("spread", spread.sd_error)) if np.isinf(end)]
        words = f"its {' and '.join(unknown)}" if name in NAMES else "it"
        assert determined == (spread.reason == "")
        assert determined or spread.reason.endswith(f"the choices of {subjects} people do not determine {words}")


def test_errors_are_infinite_along_directions_without_information():
    complete, missing = np.diag([4.0, 9.0, 1.0]), np.diag([0.0, 9.0, 0.5])
    combinations = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 0.01, 0]])
    np.testing.assert_allclose(
        population_parameters.standard_errors(complete, missing, combinations), [0.5, np.inf, 1.5, 0.5]
    )
    assert np.isinf(population_parameters.standard_errors(complete * np.nan, missing, combinations)).all()


@pytest.mark.nightly
def test_coverage_of_population_intervals_with_forty_people():
    covered, repeats = {}, 60
    for seed in range(repeats):
        fit = fit_choices(people(40, seed=1000 + seed)[0])
        for i, name in enumerate(NAMES):
            estimate = fit.population[name]
            covered.setdefault(name, []).append(estimate.low < MEAN[i] < estimate.high)
            covered.setdefault(f"sd of {name}", []).append(abs(estimate.sd - SPREAD[i]) < 1.96 * estimate.sd_error)
    share = {name: float(np.mean(inside)) for name, inside in covered.items()}
    print(share)
    for name, coverage in share.items():
        assert abs(coverage - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repeats), name


@pytest.mark.slow
def test_levels_may_be_in_any_unit():
    """Per cent of maximal force, and cents: the same people, with weights per per cent and per cent."""
    made, _ = people(40, seed=2)
    cents = dataclasses.replace(made, effort=20 * made.effort * made.known, reward=(10 * made.reward - 5) * made.known)
    one, other = fit_choices(made), fit_choices(cents)
    assert (one.reference, other.reference) == ({"reward": 2.5, "effort": 2.5}, {"reward": 20.0, "effort": 50.0})
    unit = np.array([1, 1 / 10, 1 / 20])
    np.testing.assert_allclose(other.covariance, one.covariance * np.outer(unit, unit), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(other.correlation, one.correlation, atol=1e-4)
    np.testing.assert_allclose(other.predicted, one.predicted, atol=1e-4)
    for i, name in enumerate(NAMES):
        for kind in ("raw", "shrunk"):
            before, after = (vars(getattr(fit, kind)[name]) for fit in (one, other))
            for field in ("value", "error"):
                np.testing.assert_allclose(after[field], unit[i] * before[field], rtol=1e-3, atol=1e-3 * unit[i])
        for parameter in (name, f"early_{name}"):
            before, after = one.population[parameter], other.population[parameter]
            for field in ("mean", "sd", "low", "high", "sd_error"):
                expected = pytest.approx(unit[i] * getattr(before, field), rel=1e-3, abs=1e-3 * unit[i])
                assert getattr(after, field) == expected, (name, field)
        assert other.identifiable[name].error == pytest.approx(unit[i] * one.identifiable[name].error, rel=1e-5)
        assert other.reliability[name] == pytest.approx(one.reliability[name], rel=1e-3)
    assert other.population["effort_40"].mean == pytest.approx(20 * one.population["effort_2"].mean, rel=1e-3)
    assert other.population["reward_25"].high == pytest.approx(10 * one.population["reward_3"].high - 5, rel=1e-3)


def test_the_bias_is_defined_at_the_reference_offer():
    """Biases at two reference design differ by the weights times the difference of levels."""
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
        assert abs(np.arctanh(shrunk) - np.arctanh(ceiling)) < 6 / np.sqrt(len(made)), (
            "the correlation that reliability predicts"
        )
        assert np.corrcoef(true[i], fit.raw[name].value)[0, 1] < shrunk + 0.02, (
            "shrinkage does not lower the correlation"
        )


def test_the_population_is_recovered(recovered):
    _made, true, fit = recovered
    for i, name in enumerate(NAMES):
        estimate = fit.population[name]
        assert abs(estimate.mean - true[i].mean()) < 4 * (estimate.high - estimate.low) / 4
        assert abs(estimate.sd - true[i].std()) < 5 * estimate.sd_error
    p = effort.effort_constants()
    shared_names = [name for name in vars(p) if name in fit.population]
    assert len(shared_names) == 10
    for name in shared_names:  # within four standard errors
        estimate = fit.population[name]
        width = (estimate.high - estimate.low) / 4
        assert estimate.low - 2 * width < float(getattr(p, name)) < estimate.high + 2 * width, name


def test_coverage_of_subject_intervals(recovered):
    _, true, fit = recovered
    covered = np.array([(fit.shrunk[n].low < true[i]) & (true[i] < fit.shrunk[n].high) for i, n in enumerate(NAMES)])
    assert 0.90 <= covered.mean() <= 0.98, covered.mean(axis=1)


def test_non_identifiable_weights_are_named_before_the_fit(recovered):
    made = recovered[0]
    flat = dataclasses.replace(made, reward=np.full_like(made.reward, 2.0))
    results = identifiability.assess_identifiability(flat, effort.effort_constants())
    assert not results["reward"].identifiable
    assert results["reward"].reason == "reward is the same in every offer"
    assert np.isinf(results["reward"].error)
    assert results["bias"].identifiable
    assert results["effort"].identifiable
    tied = dataclasses.replace(made, effort=made.reward)
    results = identifiability.assess_identifiability(tied, effort.effort_constants())
    assert results["effort"].reason == "effort is a linear function of reward over the offers"


def test_one_sided_subjects_are_reported(recovered):
    made, _, fit = recovered
    share = (made.accepted * made.known).sum(axis=1) / made.known.sum(axis=1)
    one_sided = int(((share == 0) | (share == 1)).sum())
    assert fit.status.count("one-sided") == one_sided
    assert fit.identifiable["bias"].subjects == len(made) - one_sided
    assert fit.status.count("fitted") == len(made) - one_sided


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"known": False}, "no choices: every trial is missed."),
        ({"accepted": 1.0}, "all 128 choices are 1: preferences are not identifiable."),
    ],
)
def test_choices_without_information_are_refused(change, message):
    made, _ = people(2)
    change = {name: np.full_like(getattr(made, name), value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        fit_choices(dataclasses.replace(made, **change))


def test_too_few_subjects_or_rounds_are_refused():
    with pytest.raises(ValueError, match="1 subject: a population has at least 2"):
        fit_choices(people(1)[0])
    with pytest.raises(ValueError, match="rounds=0 must be at least 1"):
        fit_choices(people(2)[0], rounds=0)


def test_printed_fit_is_a_short_summary(recovered):
    fit = recovered[2]
    text = repr(fit)
    lines = text.splitlines()
    assert len(lines) <= 12
    assert lines[0].startswith("ChoiceFit of 300 subjects (")
    assert lines[0].endswith(f"converged after {fit.rounds} rounds")
    for name, line in zip(NAMES, lines[2:], strict=False):
        assert line.split()[:2] == [name, f"{fit.population[name].mean:.3g}"]
    assert f"lapse {fit.population['lapse'].mean:.3g}" in text
    assert fit._repr_html_().startswith("<pre>ChoiceFit of 300")


def test_progress_is_reported():
    calls = []
    fit = fit_choices(people(300)[0], rounds=3, progress=lambda done, most: calls.append((done, most)))
    assert calls == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert fit.rounds == 3
    assert not fit.converged


def test_inner_levels_have_no_parameters_where_there_are_many():
    np.testing.assert_array_equal(marginal_likelihood.inner_levels(np.array([1, 4, 3, 2, 2])), [2, 3])
    assert marginal_likelihood.inner_levels(np.array([1.0, 1.0])).size == 0
    assert marginal_likelihood.inner_levels(np.linspace(0, 1, marginal_likelihood.MAX_INNER_LEVELS + 3)).size == 0


def correlations(true, fit):
    return {
        name: [float(np.corrcoef(true[i], by[name].value)[0, 1]) for by in (fit.raw, fit.shrunk)]
        for i, name in enumerate(NAMES)
    }


@pytest.mark.nightly
def test_a_thousand_people_with_mixed_choices():
    made, true = people(1000, seed=7)
    before = time.perf_counter()
    fit = fit_choices(made)
    took = time.perf_counter() - before
    print(f"{took:.1f} s, {fit.rounds} rounds; raw, shrunk:", correlations(true, fit))
    assert took < 60, "on two cores, compilation included"
    for _raw, shrunk in correlations(true, fit).values():
        assert shrunk >= 0.9


@pytest.mark.nightly
def test_a_thousand_people_like_those_of_the_published_choices():
    """Most of them accept nearly everything: correlations with the truth cannot exceed the root of `reliability`."""
    preferences = decisions.draw_preferences(1000, seed=7)
    true = np.stack([np.asarray(getattr(preferences, name), float) for name in NAMES])
    made = effort_tasks.run_task(effort_tasks.staircases(), preferences, seed=7)
    fit = fit_choices(made)
    print(f"{fit.rounds} rounds; raw, shrunk:", correlations(true, fit), "reliability:", fit.reliability)
    for name, (_raw, shrunk) in correlations(true, fit).items():
        assert abs(np.arctanh(shrunk) - np.arctanh(np.sqrt(fit.reliability[name]))) < 6 / np.sqrt(1000)
    covered = np.array([(fit.shrunk[n].low < true[i]) & (true[i] < fit.shrunk[n].high) for i, n in enumerate(NAMES)])
    print("coverage of 95 % intervals", covered.mean(axis=1))
    assert 0.90 <= covered.mean() <= 0.98


# ---------------------------------------------------------------- published data


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


@pytest.mark.nightly
def test_published_choices_are_fitted_no_worse_than_by_hierarchical_logistic_regression(mehrhof):
    made, _, fit = mehrhof
    assert (len(made), made.trials) == (479, 30656)
    assert fit.converged
    ours = fit.log_likelihood.sum() / made.trials
    print("per trial", ours, "hierarchical logistic", hierarchical_logistic(made))
    assert ours > hierarchical_logistic(made)
    assert ours > -0.200


@pytest.mark.nightly
def test_every_cell_of_first_offers_is_predicted_to_three_percent(mehrhof):
    made, _, fit = mehrhof
    cells = fit_choices_table.acceptance_by_cell(made, fit.predicted)
    assert len(cells) == 16
    print("worst cell", max(abs(cell.predicted - cell.observed) for cell in cells))
    assert max(abs(cell.predicted - cell.observed) for cell in cells) <= 0.03


@pytest.mark.nightly
def test_the_slope_of_the_bias_on_anhedonia_agrees_with_the_published_one(mehrhof):
    """-.20 logit per s.d., and 0 for the weights (Mehrhof & Nord 2024, 958 people).

    In half of them it is not significant: a correlation of -.08 between score and bias, with an error of .055.
    """
    _, scores, fit = mehrhof
    slopes = {slope.preference: slope for slope in fit_choices_table.relate_scores(fit, {"shaps": scores["shaps"]})}
    print(*slopes.values(), sep="\n")
    assert slopes["bias"].low < -0.20 < slopes["bias"].high
    for name in NAMES:
        assert slopes[name].low < 0 < slopes[name].high
