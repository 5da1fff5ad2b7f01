"""Gradients against central differences in float64: of a course's outputs, by everything that a user may fit.

Along a random direction in every leaf, to 1e-5 relative, in reverse and forwards. Times of doses stand on the hour
too, where a careless window has a kink.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check

from habenula.circuit.fitting.dose_spacing import Limits
from habenula.circuit.inference.likelihood import log_density, recovery_problem
from habenula.circuit.inference.observations import Binomial, Gaussian, Observed, Ordinal, Poisson
from habenula.circuit.model.interventions import SSRI, Bupropion, Ketamine, Methylphenidate, Recalibration, Stress
from habenula.circuit.model.parameters import typical
from habenula.circuit.model.slow_clock import healthy_state
from habenula.circuit.optimisation.gradient_step import _total_loss
from habenula.circuit.optimisation.problem import make_regimen_problem
from habenula.circuit.optimisation.settings import Multistart, RegimenLoss
from habenula.circuit.optimisation.target import Target
from habenula.circuit.simulation.cohort import Cohort, get_leaf, with_traits
from habenula.circuit.simulation.course import course
from habenula.kernels import Plan

DAYS = 2.0
SUBJECTS = 4
SCAN = Plan(backend="scan")

ARMS = {  # some times on the hour, some not
    "ketamine": lambda: (Ketamine(np.array([0.5, 0.3]), np.array([0.25, 1.018]), 40.0),),
    "recalibration": lambda: (Recalibration(np.array([0.5, 1.0154]), np.array([1.0, 2.0])),),
    "tablets": lambda: (
        Methylphenidate(np.array([20.0, 10.0]), np.array([0.0, 4.3]), 0.0, 2.0),
        Bupropion(300.0, 0.0, 1.5),
    ),
    "stress under an SSRI": lambda: (Stress(1.0, 0.25, 1.1), SSRI(10.0, 0.0, 1.9)),
}
RECORD = ("vta_output", "block", "gain", "mood")
TRAITS = ("plasticity.susceptibility", "synapses.strength", "synapses.inhibition", "block.turnover", "clearance")


def cohort() -> Cohort:
    """Four subjects with a strained habenula, so that no part idles; made in the precision of the test."""
    subject = jnp.arange(SUBJECTS, dtype=jnp.uint32)
    p = with_traits(typical(), subject, jnp.uint32(3), {})
    state = healthy_state(SUBJECTS, p)
    strained = eqx.tree_at(lambda s: (s.gain, s.kir_shift), state, (state.gain * 2.2, state.kir_shift - 5.0))
    return Cohort(subject, p, strained, jnp.uint32(3))


def summary(people: Cohort, arm, plan: Plan = SCAN):
    """One number that depends on every subject and record, with weights of both signs, so that little cancels."""
    found = course(people, arm, DAYS, save_every=2, record=RECORD, plan=plan)
    weights = np.random.default_rng(1).normal(size=(len(RECORD), *found[RECORD[0]].shape))
    return sum((jnp.asarray(weight) * found[name]).mean() for weight, name in zip(weights, RECORD, strict=True))


def leaves_of(arm, names):
    """Fields of the arm's interventions as a dictionary, and the function that puts others in their place."""
    places = {name: i for name in names for i, each in enumerate(arm) if hasattr(each, name)}
    where = lambda arm: [getattr(arm[i], name) for name, i in places.items()]
    put = lambda new: eqx.tree_at(where, arm, [new[name] for name in places])
    return dict(zip(places, where(arm), strict=True)), put


@pytest.mark.parametrize(
    ("arm", "names"),
    [
        ("ketamine", ("mg_per_kg", "day")),
        ("recalibration", ("intensity", "times", "challenge", "hours")),
        pytest.param("tablets", ("mg", "hour", "mg_per_day"), marks=pytest.mark.slow),
        pytest.param("stress under an SSRI", ("severity", "days", "mg_per_day"), marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("float64")
def test_doses_and_times(arm, names):
    people, arm = cohort(), ARMS[arm]()
    values, put = leaves_of(arm, names)
    check(lambda values: summary(people, put(values)), values)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_traits_and_the_initial_state():
    people, arm = cohort(), ARMS["ketamine"]()

    def function(given):
        (gain, kir_shift), traits = given
        p = people.parameters
        for path, value in traits.items():
            p = eqx.tree_at(lambda p, path=path: get_leaf(p, path), p, value)
        where = lambda c: (c.state.gain, c.state.kir_shift, c.parameters)
        return summary(eqx.tree_at(where, people, (gain, kir_shift, p)), arm)

    traits = {path: get_leaf(people.parameters, path) for path in TRAITS}
    check(function, ((people.state.gain, people.state.kir_shift), traits))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tiled", pytest.param("scan", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("float64")
def test_one_value_per_subject_under_both_loops(backend):
    people, plan = cohort(), Plan(backend=backend, tile=16)
    mg = jnp.linspace(0.2, 0.8, 2 * SUBJECTS).reshape(2, SUBJECTS)
    day = jnp.linspace(0.0, 1.5, 2 * SUBJECTS).reshape(2, SUBJECTS)
    check(lambda leaves: summary(people, (Ketamine(*leaves, jnp.array([40.0])),), plan), (mg, day))


OBJECTIVES = {
    "mean": (Target.mean(5.0, (0.0, DAYS)), "mean", None),
    "a day for each": (Target.trajectory((1, 2), (4.0, 5.0)), "mean", None),
    "the worst, sessions apart and held back": (
        Target.response(by=1, output=5.0),
        "worst tenth",
        Limits(interval=0.25, per_week=2, per_day=1.5),
    ),
    "a quantile": (Target.mean(5.0, (0.0, DAYS)), 0.4, None),
    "each subject": (Target.mean(None, (0.0, DAYS)), None, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if "worst" in name else pytest.mark.slow) for name in OBJECTIVES]
)
@pytest.mark.usefixtures("float64")
def test_the_loss_of_a_fit(name):
    """For every kind of target and of cohort, with times apart and amounts held back."""
    target, over_cohort, limits = OBJECTIVES[name]
    fit = make_regimen_problem(
        cohort(),
        ARMS["recalibration"](),
        target,
        over=("intensity", "times"),
        days=DAYS,
        search=Multistart(starts=2, steps=1),
        loss=RegimenLoss(shortfall=0.02, over_cohort=over_cohort),
        limits=limits or Limits(interval=0.0),
        weights=(0.01, 0.02),
        plan=SCAN,
    )
    none = jnp.zeros((2, 4, SUBJECTS))  # leaves, starts
    free = tuple(jnp.asarray(np.random.default_rng(i).normal(size=each.shape)) for i, each in enumerate(fit.starts))
    check(lambda free: _total_loss(free, none, fit)[0], free)


@pytest.mark.nightly
@pytest.mark.usefixtures("float64")
def test_the_objective_of_a_recovery():
    """Under every noise model, with values missing, in what is shared and in what is each subject's own."""
    people, days, generator = cohort(), (0.5, 1.0, 2.0), np.random.default_rng(5)
    values = {
        "vta_output": (Gaussian(0.3), 4 + generator.normal(size=(SUBJECTS, 3))),
        "rate": (Poisson(10.0), generator.poisson(40, size=(SUBJECTS, 3)).astype(float)),
        "block": (Binomial(20), generator.integers(0, 20, size=(SUBJECTS, 3)).astype(float)),
        "mood": (Ordinal([0.5, 0.7, 0.9], 0.1), generator.integers(0, 4, size=(SUBJECTS, 3)).astype(float)),
    }
    values["vta_output"][1][1, 1] = np.nan
    data = [Observed(name, days, noise, value) for name, (noise, value) in values.items()]
    over = {"mg_per_kg": "shared", "clearance": "subject", "state.gain": "subject"}
    density = log_density(recovery_problem(people, ARMS["ketamine"](), data, over, everyday="known"))
    check(density.function, density.initial)
