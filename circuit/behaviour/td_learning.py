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

from ...kernels import channel_keys, entry_point, normals
from ..data import constants
from .pavlovian import Trials

Lane = Float[Array, " subject"]
Shared = Float[Array, "*#subject"]

ANTICIPATE = 0x616E7469  # tells the noise of responses from all other


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

    learning_rate: Shared
    discount: Shared
    prior: Shared
    prior_mood: Shared
    puff: Shared
    bias: Shared
    sensitivity: Shared


class Values(eqx.Module):
    """What is expected now, in units of the full reward: before any cue, and of each cue."""

    context: Lane
    cues: Float[Array, "cue subject"]


class Errors(eqx.Module):
    """The prediction errors of one trial, and the value of its cue before it; 0 where there was no trial."""

    value: Lane
    cue: Lane
    outcome: Lane


class Learnt(eqx.Module):
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
    last: Values


def learner() -> Learner:
    """The constants of the package's table (section `learning.*`)."""
    return Learner(**constants.arrays("learning"))


def in_mood(p: Learner, mood: Shared) -> Learner:
    """The learner whose `mood` (1 in health) has moved its prior; the move is then done, and not done again."""
    moved = p.prior + p.prior_mood * (mood - 1)
    return eqx.tree_at(lambda p: (p.prior, p.prior_mood), p, (moved, jnp.zeros_like(p.prior_mood)))


def naive(subjects: int, cues: int, p: Learner) -> Values:
    """Values before the first trial."""
    return Values(jnp.zeros(subjects, p.prior.dtype), jnp.broadcast_to(p.prior, (cues, subjects)))


def surprise(values: Values, cue: Int[Array, " subject"], reward: Lane, puff: Lane, p: Learner) -> Errors:
    """The prediction errors of a trial that shows `cue` and brings `reward` and `puff`."""
    shown = _shown(values, cue)
    value, happens = (shown * values.cues).sum(axis=0), shown.sum(axis=0)
    return Errors(value, happens * (p.discount * value - values.context), happens * (reward + p.puff * puff - value))


def learn(values: Values, cue: Int[Array, " subject"], errors: Errors, p: Learner) -> Values:
    """The values after a trial."""
    moved = values.cues + _shown(values, cue) * (p.learning_rate * errors.outcome)[None]
    return Values(values.context + p.learning_rate * errors.cue, moved)


def expect(trials: Trials, p: Learner | None = None, *, cues: int | None = None) -> Learnt:
    """A session of behaviour alone, without currents: what each subject expected in each trial.

    Differentiable in every leaf of `p`.

    Args:
        trials: from `pavlovian.conduct`, or your own.
        p: how they learn; the package's by default. Mood counts as healthy: see `in_mood`.
        cues: how many there are; by default as many as were shown.

    Raises:
        ValueError: trials whose arrays differ in shape, numbers that are not finite, or learners of another number.
    """
    _check(trials)
    subjects = trials.cue.shape[0]
    if cues is None:
        cues = max(int(np.asarray(trials.cue).max()) + 1, 1)
    return _expect(trials, checked(p, subjects), subjects, cues)


@entry_point
def _expect(trials: Trials, p: Learner, subjects: int, cues: int) -> Learnt:
    def trial(values, now):
        cue, reward, puff = now
        errors = surprise(values, cue, reward, puff, p)
        return learn(values, cue, errors, p), (values.context, errors.value, errors.cue, errors.outcome)

    lanes = jax.tree.map(jnp.transpose, (trials.cue, trials.reward, trials.puff))
    last, seen = jax.lax.scan(trial, naive(subjects, cues, p), lanes)
    return Learnt(*(each.T for each in seen), last=last)


@entry_point
def anticipation(learnt: Learnt, p: Learner) -> Float[Array, "subject trial"]:
    """Probability of an anticipatory response in each trial."""
    return jax.nn.sigmoid(_logit(learnt, p))


def anticipate(trials: Trials, p: Learner | None = None, *, seed: int = 0) -> Float[Array, "subject trial"]:
    """Draw anticipatory responses, 1 or 0, in `trials`; NaN where there was none. Raises as `expect` does."""
    how = checked(p, trials.cue.shape[0])
    return _drawn(trials, anticipation(expect(trials, how), how), channel_keys(seed ^ ANTICIPATE, 1))


@entry_point
def _drawn(trials: Trials, chance: Float[Array, "subject trial"], keys) -> Float[Array, "subject trial"]:
    number, when = (jnp.arange(length, dtype=jnp.uint32) for length in chance.shape)
    z = jax.vmap(lambda trial: normals(keys, number, trial, chance.dtype)[0], out_axes=1)(when)
    drawn = (jax.scipy.stats.norm.cdf(z) < chance).astype(chance.dtype)
    return jnp.where(trials.cue < 0, jnp.nan, drawn)


def log_anticipation(
    responses: Float[ArrayLike, "subject trial"], trials: Trials, p: Learner | None = None, *, cues: int | None = None
) -> Float[Array, " subject"]:
    """Log-likelihood of each subject's anticipatory `responses` (1, 0; NaN missing), differentiable in every leaf of `p`.

    Raises:
        ValueError: responses of another shape than the trials, or that are neither 0 nor 1; else as `expect`.
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
    how = checked(p, trials.cue.shape[0])
    return _log_likelihood(responses, trials, expect(trials, how, cues=cues), how)


@entry_point
def _log_likelihood(responses, trials: Trials, learnt: Learnt, p: Learner) -> Float[Array, " subject"]:
    logit = _logit(learnt, p)
    known = ~jnp.isnan(responses) & (trials.cue >= 0)
    way = 2 * jnp.where(known, responses, 0) - 1
    return jnp.where(known, jax.nn.log_sigmoid(way * logit), 0).sum(axis=1)


def _logit(learnt: Learnt, p: Learner) -> Float[Array, "subject trial"]:
    each = lambda leaf: jnp.broadcast_to(leaf, learnt.value.shape[:1])[:, None]
    return each(p.bias) + each(p.sensitivity) * learnt.value


def _shown(values: Values, cue: Int[Array, " subject"]) -> Float[Array, "cue subject"]:
    """1 for the cue that is shown; all 0 where there is no trial."""
    number = jnp.arange(values.cues.shape[0], dtype=cue.dtype)
    return (number[:, None] == cue[None]).astype(values.cues.dtype)


def _check(trials: Trials) -> None:
    """Refuse trials that cannot be lived."""
    shapes = {name: getattr(trials, name).shape for name in ("cue", "reward", "puff")}
    if len(set(shapes.values())) != 1 or len(trials.cue.shape) != 2 or 0 in trials.cue.shape:
        raise ValueError(f"trials of shapes {shapes}: give (subject, trial) for each, at least one of both.")
    for name in ("reward", "puff"):
        value = getattr(trials, name)
        if not isinstance(value, Tracer) and not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise ValueError(f"{name} of (subject, trial) {where} is {np.asarray(value)[where]}: 0 where nothing came.")


def checked(p: Learner | None, subjects: int) -> Learner:
    """The learner, the package's by default, after refusing one of another number of subjects or with impossible numbers.

    Raises:
        ValueError: quoting the field and the value.
    """
    given = learner() if p is None else p
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
