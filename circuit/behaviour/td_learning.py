"""Temporal-difference learning of cue values, TD(0), and anticipatory responses.

A trial has three values: of the situation before the cue, `context`; of each cue; and of the outcome,
u = reward + puff value x puff. A prediction error is the difference of two successive values (Sutton & Barto 1998):

    at the cue      d = discount V(cue) - V(context)        V(context) += learning_rate d
    at the outcome  d = u - V(cue)                          V(cue)     += learning_rate d

A cue that predicts less than the context is therefore a negative prediction error, before any outcome. The circuit receives
these errors and does not change the learning.

The value of a new cue is the `prior`, shifted by mood. Mood is a leaky sum of past errors (`motivation`): recent rewards
raise what is expected of new cues (Eldar, Rutledge, Dolan & Niv 2016). The context starts at 0, so that with a pessimistic
prior the first sight of a cue is a negative error, which inhibits dopamine before any effort.

The probability of an anticipatory response, such as licking, has logit bias + sensitivity V(cue).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, UInt

from ...kernels import channel_keys, entry_point, normals_at_step
from ..data import constants
from .conditioning import Trials

Lane = Float[Array, " subject"]
ScalarOrPerSubject = Float[Array, "*#subject"]

RESPONSE_NOISE_STREAM = 0x616E7469  # separates the noise of responses from all other noise


class Learner(eqx.Module):
    """Parameters of learning and responding. Each is a scalar, or one value per subject.

    Values are in units of the full reward.

    Attributes:
        learning_rate: share of a prediction error that is added to the value, 0 to 1.
        discount: of the outcome's value at the time of the cue, 0 to 1.
        prior: value of a cue before its first outcome.
        prior_mood: change of the prior per unit of mood above health.
        puff: value of a strong air puff.
        bias: logit of an anticipatory response to a cue of value 0.
        sensitivity: logit per unit of value.
    """

    learning_rate: ScalarOrPerSubject
    discount: ScalarOrPerSubject
    prior: ScalarOrPerSubject
    prior_mood: ScalarOrPerSubject
    puff: ScalarOrPerSubject
    bias: ScalarOrPerSubject
    sensitivity: ScalarOrPerSubject


class ValueEstimates(eqx.Module):
    """Values of the context and of each cue, in units of the full reward."""

    context: Lane
    cues: Float[Array, "cue subject"]


class PredictionErrors(eqx.Module):
    """Prediction errors of one trial at the cue and at the outcome, and the value of the cue before; 0 without a trial."""

    value: Lane
    cue: Lane
    outcome: Lane


class LearningHistory(eqx.Module):
    """Values before the outcome of each trial, and prediction errors.

    Attributes:
        context_value: value of the context.
        cue_value: value of the present cue.
        cue_error: prediction error at the cue.
        outcome_error: prediction error at the outcome.
        last: values after the last trial.
    """

    context_value: Float[Array, "subject trial"]
    cue_value: Float[Array, "subject trial"]
    cue_error: Float[Array, "subject trial"]
    outcome_error: Float[Array, "subject trial"]
    last: ValueEstimates


def default_learner() -> Learner:
    """Learning parameters of the package's table (section `learning.*`).

    >>> import habenula as hb
    >>> bool(0 < hb.behaviour.default_learner().learning_rate < 1)
    True
    """
    return Learner(**constants.section_arrays("learning"))


def shift_prior_by_mood(p: Learner, mood: ScalarOrPerSubject) -> Learner:
    """The learner with its prior shifted by `mood` (1 in health). `prior_mood` becomes 0: the shift is applied once."""
    prior = p.prior + p.prior_mood * (mood - 1)
    return eqx.tree_at(lambda p: (p.prior, p.prior_mood), p, (prior, jnp.zeros_like(p.prior_mood)))


def initial_values(subjects: int, cues: int, p: Learner) -> ValueEstimates:
    """Values before the first trial."""
    return ValueEstimates(jnp.zeros(subjects, p.prior.dtype), jnp.broadcast_to(p.prior, (cues, subjects)))


def prediction_errors(
    values: ValueEstimates, cue: Int[Array, " subject"], reward: Lane, puff: Lane, p: Learner
) -> PredictionErrors:
    """TD(0) prediction errors of a trial with `cue`, `reward` and `puff`."""
    one_hot = _one_hot_cue(values, cue)
    value, has_trial = (one_hot * values.cues).sum(axis=0), one_hot.sum(axis=0)
    return PredictionErrors(
        value, has_trial * (p.discount * value - values.context), has_trial * (reward + p.puff * puff - value)
    )


def update_values(
    values: ValueEstimates, cue: Int[Array, " subject"], errors: PredictionErrors, p: Learner
) -> ValueEstimates:
    """Values after a trial."""
    cues = values.cues + _one_hot_cue(values, cue) * (p.learning_rate * errors.outcome)[None]
    return ValueEstimates(values.context + p.learning_rate * errors.cue, cues)


def expected_values(trials: Trials, p: Learner | None = None, *, cues: int | None = None) -> LearningHistory:
    """TD(0) learning of cue values over conditioning trials, without a circuit. Differentiable in every leaf of `p`.

    Args:
        trials: from `schedule_trials`, or your own.
        p: learning parameters; by default the package's. Mood counts as healthy: see `shift_prior_by_mood`.
        cues: number of cues; by default as many as were shown.

    Returns:
        Values before each outcome and prediction errors, (subject, trial).

    Raises:
        ValueError: trials whose arrays differ in shape or are not finite, or learners of another number of subjects.

    References:
        Sutton & Barto (1998).

    >>> import habenula as hb
    >>> trials = hb.behaviour.Trials(cue=[[0, 0]], reward=[[1.0, 1.0]])
    >>> history = hb.behaviour.expected_values(trials)
    >>> bool((history.outcome_error[:, 1] < history.outcome_error[:, 0]).all())  # errors shrink as the reward becomes expected
    True
    """
    _check_trials(trials)
    subjects = trials.cue.shape[0]
    if cues is None:
        cues = max(int(np.asarray(trials.cue).max()) + 1, 1)
    return _scan_trials(trials, check_learner(p, subjects), subjects, cues)


@entry_point
def _scan_trials(trials: Trials, p: Learner, subjects: int, cues: int) -> LearningHistory:
    def trial(values, observed):
        cue, reward, puff = observed
        errors = prediction_errors(values, cue, reward, puff, p)
        return update_values(values, cue, errors, p), (values.context, errors.value, errors.cue, errors.outcome)

    by_trial = jax.tree.map(jnp.transpose, (trials.cue, trials.reward, trials.puff))
    last, history = jax.lax.scan(trial, initial_values(subjects, cues, p), by_trial)
    return LearningHistory(*(leaf.T for leaf in history), last=last)


@entry_point
def anticipation_probability(history: LearningHistory, p: Learner) -> Float[Array, "subject trial"]:
    """Probability of an anticipatory response in each trial, sigmoid(bias + sensitivity V(cue))."""
    return jax.nn.sigmoid(_response_logit(history, p))


def simulate_anticipation(trials: Trials, p: Learner | None = None, *, seed: int = 0) -> Float[Array, "subject trial"]:
    """Simulate anticipatory responses, such as licking: 1 or 0, NaN where there was no trial.

    Args:
        trials: from `schedule_trials`, or your own.
        p: learning and response parameters; by default the package's.
        seed: of the responses.

    Raises:
        ValueError: as `expected_values`.

    >>> import habenula as hb
    >>> hb.behaviour.simulate_anticipation(hb.behaviour.Trials(cue=[[0, -1]], reward=1.0), seed=1).shape
    (1, 2)
    """
    learner = check_learner(p, trials.cue.shape[0])
    return _draw_responses(
        trials,
        anticipation_probability(expected_values(trials, learner), learner),
        channel_keys(seed ^ RESPONSE_NOISE_STREAM, 1),
    )


@entry_point
def _draw_responses(
    trials: Trials, probability: Float[Array, "subject trial"], keys: UInt[Array, "..."]
) -> Float[Array, "subject trial"]:
    subject, number = (jnp.arange(length, dtype=jnp.uint32) for length in probability.shape)
    z = jax.vmap(lambda trial: normals_at_step(keys, subject, trial, probability.dtype)[0], out_axes=1)(number)
    responses = (jax.scipy.stats.norm.cdf(z) < probability).astype(probability.dtype)
    return jnp.where(trials.cue < 0, jnp.nan, responses)


def anticipation_log_likelihood(
    responses: Float[ArrayLike, "subject trial"], trials: Trials, p: Learner | None = None, *, cues: int | None = None
) -> Float[Array, " subject"]:
    """Log-likelihood of anticipatory responses under TD(0) learning, differentiable in every leaf of `p`.

    Args:
        responses: 1 or 0; NaN where missing.
        trials: the cues and outcomes to which they belong.
        p: learning and response parameters; by default the package's.
        cues: number of cues; by default as many as were shown.

    Returns:
        Sum over the trials of each subject.

    Raises:
        ValueError: responses of another shape than the trials, or other than 0, 1 and NaN; else as `expected_values`.

    >>> import numpy as np
    >>> import habenula as hb
    >>> trials = hb.behaviour.Trials(cue=[[0, 0]], reward=[[1.0, 1.0]])
    >>> hb.behaviour.anticipation_log_likelihood(np.array([[0.0, np.nan]]), trials).shape
    (1,)
    """
    responses = jnp.asarray(responses, jnp.result_type(float))
    if responses.shape != trials.cue.shape:
        raise ValueError(
            f"responses of shape {responses.shape} to trials of shape {trials.cue.shape}: give one per trial."
        )
    if not isinstance(responses, Tracer):
        values = np.asarray(responses)
        if (wrong := ~np.isin(values, (0.0, 1.0)) & ~np.isnan(values)).any():
            raise ValueError(f"a response of {values[wrong][0]:g}: responses are 1 or 0, or NaN where missing.")
    learner = check_learner(p, trials.cue.shape[0])
    return _response_log_likelihood(responses, trials, expected_values(trials, learner, cues=cues), learner)


@entry_point
def _response_log_likelihood(
    responses: Float[Array, "subject trial"], trials: Trials, history: LearningHistory, p: Learner
) -> Float[Array, " subject"]:
    logit = _response_logit(history, p)
    known = ~jnp.isnan(responses) & (trials.cue >= 0)
    sign = 2 * jnp.where(known, responses, 0) - 1
    return jnp.where(known, jax.nn.log_sigmoid(sign * logit), 0).sum(axis=1)


def _response_logit(history: LearningHistory, p: Learner) -> Float[Array, "subject trial"]:
    subjects = history.cue_value.shape[:1]
    bias, sensitivity = (jnp.broadcast_to(leaf, subjects)[:, None] for leaf in (p.bias, p.sensitivity))
    return bias + sensitivity * history.cue_value


def _one_hot_cue(values: ValueEstimates, cue: Int[Array, " subject"]) -> Float[Array, "cue subject"]:
    """1 for the present cue; all 0 without a trial."""
    number = jnp.arange(values.cues.shape[0], dtype=cue.dtype)
    return (number[:, None] == cue[None]).astype(values.cues.dtype)


def _check_trials(trials: Trials) -> None:
    """Refuse trials of unequal shapes, or with outcomes that are not finite."""
    shapes = {name: getattr(trials, name).shape for name in ("cue", "reward", "puff")}
    if len(set(shapes.values())) != 1 or len(trials.cue.shape) != 2 or 0 in trials.cue.shape:
        raise ValueError(f"trials of shapes {shapes}: give (subject, trial) for all three, at least one of each.")
    for name in ("reward", "puff"):
        value = getattr(trials, name)
        if not isinstance(value, Tracer) and not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise ValueError(
                f"{name} of (subject, trial) {where} is {np.asarray(value)[where]}: use 0 where there was none."
            )


def check_learner(p: Learner | None, subjects: int) -> Learner:
    """The learner as arrays; by default the package's.

    Raises:
        ValueError: a field of another number of subjects, not finite, or outside 0 to 1 where it must not be.
    """
    learner = default_learner() if p is None else p
    learner = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), learner)
    for name, leaf in vars(learner).items():
        if leaf.ndim and leaf.shape != (subjects,):
            raise ValueError(
                f"Learner.{name} of shape {leaf.shape} for {subjects} subjects: give one for all, or one per subject."
            )
        if isinstance(leaf, Tracer):
            continue
        value = np.asarray(leaf)
        if not np.isfinite(value).all():
            raise ValueError(f"Learner.{name} = {value[~np.isfinite(value)][0]} must be a finite number.")
        if name in ("learning_rate", "discount") and (wrong := (value < 0) | (value > 1)).any():
            raise ValueError(f"Learner.{name} = {value[wrong][0]:g} must lie between 0 and 1.")
    return learner
