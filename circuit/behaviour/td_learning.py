"""What a subject expects of cues, and how expectation follows experience: learning by temporal differences.

Three values are in play in a trial: of the situation before the cue, `context`; of each cue; and of the outcome itself,
u = reward + puff value x puff. Each surprise is the difference of two that follow each other (Sutton & Barto 1998, TD(0)):

    at the cue      d = discount V(cue) - V(context)        V(context) += learning_rate d
    at the outcome  d = u - V(cue)                          V(cue)     += learning_rate d

so that a cue that promises less than the situation did surprises badly, before anything has come of it. Learning is of the
subject, not of the circuit; the circuit hears of it through these errors alone.

A new cue is worth the `prior`, moved by mood: mood is a leaky sum of past errors (`motivation`), and what the world has
paid of late is what it is expected to pay (Eldar, Rutledge, Dolan & Niv 2016). The situation begins at 0, so a pessimistic
prior is a bad surprise at the first sight of a cue: the veto begins before any effort.

Anticipation of the outcome is a response, such as licking, with logit bias + sensitivity V(cue).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int

from ...kernels import channel_keys, entry_point, normals_at_step
from ..data import constants
from .conditioning import Trials

Lane = Float[Array, " subject"]
ScalarOrPerSubject = Float[Array, "*#subject"]

RESPONSE_NOISE_STREAM = 0x616E7469  # tells the noise of responses from all other


class Learner(eqx.Module):
    """How subjects learn and respond. Each is a scalar, or one value per subject.

    Attributes:
        learning_rate: share of an error by which the value moves, 0 to 1.
        discount: worth at the cue of what the outcome will be worth.
        prior: value expected of a cue before its first outcome.
        prior_mood: by how much that prior moves per unit of mood above health.
        puff: value of a strong air puff.
        bias: logit of an anticipatory response to a cue of value 0.
        sensitivity: logit of it per unit of value.
    """

    learning_rate: ScalarOrPerSubject
    discount: ScalarOrPerSubject
    prior: ScalarOrPerSubject
    prior_mood: ScalarOrPerSubject
    puff: ScalarOrPerSubject
    bias: ScalarOrPerSubject
    sensitivity: ScalarOrPerSubject


class ValueEstimates(eqx.Module):
    """What is expected now, in units of the full reward: before any cue, and of each cue."""

    context: Lane
    cues: Float[Array, "cue subject"]


class PredictionErrors(eqx.Module):
    """The prediction errors of one trial, and the value of its cue before it; 0 where there was no trial."""

    value: Lane
    cue: Lane
    outcome: Lane


class LearningHistory(eqx.Module):
    """What subjects expected in each trial, before its outcome, and how they were surprised.

    Attributes:
        context: value before the cue.
        value: of the cue.
        cue, outcome: prediction errors there.
        last: the values after the last trial.
    """

    context: Float[Array, "subject trial"]
    value: Float[Array, "subject trial"]
    cue: Float[Array, "subject trial"]
    outcome: Float[Array, "subject trial"]
    last: ValueEstimates


def default_learner() -> Learner:
    """The constants of the package's table (section `learning.*`)."""
    return Learner(**constants.section_arrays("learning"))


def shift_prior_by_mood(p: Learner, mood: ScalarOrPerSubject) -> Learner:
    """The learner whose `mood` (1 in health) has moved its prior; the move is then done, and not done again."""
    moved = p.prior + p.prior_mood * (mood - 1)
    return eqx.tree_at(lambda p: (p.prior, p.prior_mood), p, (moved, jnp.zeros_like(p.prior_mood)))


def initial_values(subjects: int, cues: int, p: Learner) -> ValueEstimates:
    """Values before the first trial."""
    return ValueEstimates(jnp.zeros(subjects, p.prior.dtype), jnp.broadcast_to(p.prior, (cues, subjects)))


def prediction_errors(
    values: ValueEstimates, cue: Int[Array, " subject"], reward: Lane, puff: Lane, p: Learner
) -> PredictionErrors:
    """The prediction errors of a trial that shows `cue` and brings `reward` and `puff`."""
    shown = _one_hot_cue(values, cue)
    value, happens = (shown * values.cues).sum(axis=0), shown.sum(axis=0)
    return PredictionErrors(
        value, happens * (p.discount * value - values.context), happens * (reward + p.puff * puff - value)
    )


def update_values(
    values: ValueEstimates, cue: Int[Array, " subject"], errors: PredictionErrors, p: Learner
) -> ValueEstimates:
    """The values after a trial."""
    moved = values.cues + _one_hot_cue(values, cue) * (p.learning_rate * errors.outcome)[None]
    return ValueEstimates(values.context + p.learning_rate * errors.cue, moved)


def expected_values(trials: Trials, p: Learner | None = None, *, cues: int | None = None) -> LearningHistory:
    """A session of behaviour alone, without currents: what each subject expected in each trial.

    Differentiable in every leaf of `p`.

    Args:
        trials: from `pavlovian.conduct`, or your own.
        p: how they learn; the package's by default. Mood counts as healthy: see `shift_prior_by_mood`.
        cues: how many there are; by default as many as were shown.

    Raises:
        ValueError: trials whose arrays differ in shape, numbers that are not finite, or learners of another number.
    """
    _check_trials(trials)
    subjects = trials.cue.shape[0]
    if cues is None:
        cues = max(int(np.asarray(trials.cue).max()) + 1, 1)
    return _scan_trials(trials, check_learner(p, subjects), subjects, cues)


@entry_point
def _scan_trials(trials: Trials, p: Learner, subjects: int, cues: int) -> LearningHistory:
    def trial(values, now):
        cue, reward, puff = now
        errors = prediction_errors(values, cue, reward, puff, p)
        return update_values(values, cue, errors, p), (values.context, errors.value, errors.cue, errors.outcome)

    lanes = jax.tree.map(jnp.transpose, (trials.cue, trials.reward, trials.puff))
    last, seen = jax.lax.scan(trial, initial_values(subjects, cues, p), lanes)
    return LearningHistory(*(each.T for each in seen), last=last)


@entry_point
def anticipation_probability(learnt: LearningHistory, p: Learner) -> Float[Array, "subject trial"]:
    """Probability of an anticipatory response in each trial."""
    return jax.nn.sigmoid(_response_logit(learnt, p))


def simulate_anticipation(trials: Trials, p: Learner | None = None, *, seed: int = 0) -> Float[Array, "subject trial"]:
    """Draw anticipatory responses, 1 or 0, in `trials`; NaN where there was none. Raises as `expected_values` does."""
    how = check_learner(p, trials.cue.shape[0])
    return _draw_responses(
        trials,
        anticipation_probability(expected_values(trials, how), how),
        channel_keys(seed ^ RESPONSE_NOISE_STREAM, 1),
    )


@entry_point
def _draw_responses(trials: Trials, chance: Float[Array, "subject trial"], keys) -> Float[Array, "subject trial"]:
    number, when = (jnp.arange(length, dtype=jnp.uint32) for length in chance.shape)
    z = jax.vmap(lambda trial: normals_at_step(keys, number, trial, chance.dtype)[0], out_axes=1)(when)
    drawn = (jax.scipy.stats.norm.cdf(z) < chance).astype(chance.dtype)
    return jnp.where(trials.cue < 0, jnp.nan, drawn)


def anticipation_log_likelihood(
    responses: Float[ArrayLike, "subject trial"], trials: Trials, p: Learner | None = None, *, cues: int | None = None
) -> Float[Array, " subject"]:
    """Log-likelihood of each subject's anticipatory `responses` (1, 0; NaN missing), differentiable in every leaf of `p`.

    Raises:
        ValueError: responses of another shape than the trials, or that are neither 0 nor 1; else as `expected_values`.
    """
    responses = jnp.asarray(responses, jnp.result_type(float))
    if responses.shape != trials.cue.shape:
        raise ValueError(
            f"responses of shape {responses.shape} to trials of shape {trials.cue.shape}: give one for each."
        )
    if not isinstance(responses, Tracer):
        given = np.asarray(responses)
        if (wrong := ~np.isin(given, (0.0, 1.0)) & ~np.isnan(given)).any():
            raise ValueError(f"a response of {given[wrong][0]:g}: they are 1, 0, or NaN where there is none.")
    how = check_learner(p, trials.cue.shape[0])
    return _response_log_likelihood(responses, trials, expected_values(trials, how, cues=cues), how)


@entry_point
def _response_log_likelihood(
    responses, trials: Trials, learnt: LearningHistory, p: Learner
) -> Float[Array, " subject"]:
    logit = _response_logit(learnt, p)
    known = ~jnp.isnan(responses) & (trials.cue >= 0)
    way = 2 * jnp.where(known, responses, 0) - 1
    return jnp.where(known, jax.nn.log_sigmoid(way * logit), 0).sum(axis=1)


def _response_logit(learnt: LearningHistory, p: Learner) -> Float[Array, "subject trial"]:
    each = lambda leaf: jnp.broadcast_to(leaf, learnt.value.shape[:1])[:, None]
    return each(p.bias) + each(p.sensitivity) * learnt.value


def _one_hot_cue(values: ValueEstimates, cue: Int[Array, " subject"]) -> Float[Array, "cue subject"]:
    """1 for the cue that is shown; all 0 where there is no trial."""
    number = jnp.arange(values.cues.shape[0], dtype=cue.dtype)
    return (number[:, None] == cue[None]).astype(values.cues.dtype)


def _check_trials(trials: Trials) -> None:
    """Refuse trials that cannot be lived."""
    shapes = {name: getattr(trials, name).shape for name in ("cue", "reward", "puff")}
    if len(set(shapes.values())) != 1 or len(trials.cue.shape) != 2 or 0 in trials.cue.shape:
        raise ValueError(f"trials of shapes {shapes}: give (subject, trial) for each, at least one of both.")
    for name in ("reward", "puff"):
        value = getattr(trials, name)
        if not isinstance(value, Tracer) and not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise ValueError(f"{name} of (subject, trial) {where} is {np.asarray(value)[where]}: 0 where nothing came.")


def check_learner(p: Learner | None, subjects: int) -> Learner:
    """The learner, the package's by default, after refusing one of another number of subjects or with impossible numbers.

    Raises:
        ValueError: quoting the field and the value.
    """
    given = default_learner() if p is None else p
    how = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), given)
    for name, leaf in vars(how).items():
        if leaf.ndim and leaf.shape != (subjects,):
            raise ValueError(
                f"Learner.{name} of shape {leaf.shape} for {subjects} subjects: one for all, or one for each."
            )
        if isinstance(leaf, Tracer):
            continue
        value = np.asarray(leaf)
        if not np.isfinite(value).all():
            raise ValueError(f"Learner.{name} = {value[~np.isfinite(value)][0]} must be a finite number.")
        if name in ("learning_rate", "discount") and (wrong := (value < 0) | (value > 1)).any():
            raise ValueError(f"Learner.{name} = {value[wrong][0]:g} must lie between 0 and 1.")
    return how
