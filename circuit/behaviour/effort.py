"""Effort choices: probability of accepting an offer, decision latency, and modulation of preferences by the circuit.

An offer of some effort and reward is accepted with probability

    P(accept) = lapse/2 + (1 - lapse) sigmoid((1 - naive f) a + f a0)        f = e^(-t/fade)
    a = bias + reward_weight (R - R0) - effort_weight (E - E0)

at trial t = 0, 1, ... R and E are perceived levels. R0 and E0 are a reference offer, so that the bias is the willingness to
accept that one. In the first trials, before the effort was experienced, a subject's own preferences have a smaller weight
(`naive`), and everyone judges by the same value a0: like `a`, with the preferences `early_*`.

The circuit enters in one place, `modulate_preferences`. LHb output reduces the bias through the RMTg. Dopamine sets the cost
of effort. Liking of rewards has no effect.

The form was selected on the choices of 479 people (Mehrhof & Nord 2024) by predicting each half from the other; see
`habenula.circuit.calibration.effort`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..data import constants

Lane = Float[Array, "*#shape"]


class Preferences(eqx.Module):
    """Preferences in effort choices, which differ between people. Each is a scalar, or one value per subject.

    Attributes:
        bias: logit. Willingness to accept the reference offer.
        reward: logit per level of reward.
        effort: logit per level of effort; positive if effort is aversive.

    >>> import jax.numpy as jnp
    >>> import habenula as hb
    >>> preferences = hb.behaviour.Preferences(jnp.asarray(3.0), jnp.asarray(1.5), jnp.asarray(1.5))
    >>> float(preferences.bias)
    3.0
    """

    bias: Float[Array, "*#subject"]
    reward: Float[Array, "*#subject"]
    effort: Float[Array, "*#subject"]


class EffortConstants(eqx.Module):
    """Constants of effort choices, shared by all people.

    Attributes:
        reference_effort, reference_reward: levels. The offer at which the bias is defined.
        effort_2, effort_3, reward_2, reward_3: levels. How the second and third of four are perceived.
        early_bias, early_reward, early_effort: logit, and logit per level. Preferences of everyone at the first trial.
        naive: reduction of the weight of a subject's own preferences at the first trial, 0 to 1.
        fade: trials over which this reduction falls to 1/e.
        lapse: lapse rate, the share of choices that ignore the offer.
        veto: logit per e-fold increase of the RMTg rate. Reduction of the bias.
        reference_rmtg: Hz. RMTg rate of the typical healthy subject.
        dearness: exponent by which the effort weight grows as relative dopamine falls.
        reference_dopamine: uM. Accumbens dopamine of the typical healthy subject.
        latency: s. Median decision time at certainty.
        doubt: log ratio of decision times at indifference and at certainty.
        latency_veto: log ratio of decision times per e-fold increase of the RMTg rate.
        latency_spread: standard deviation of log latency.
    """

    reference_effort: Float[Array, ""]
    reference_reward: Float[Array, ""]
    effort_2: Float[Array, ""]
    effort_3: Float[Array, ""]
    reward_2: Float[Array, ""]
    reward_3: Float[Array, ""]
    early_bias: Float[Array, ""]
    early_reward: Float[Array, ""]
    early_effort: Float[Array, ""]
    naive: Float[Array, ""]
    fade: Float[Array, ""]
    lapse: Float[Array, ""]
    veto: Float[Array, ""]
    reference_rmtg: Float[Array, ""]
    dearness: Float[Array, ""]
    reference_dopamine: Float[Array, ""]
    latency: Float[Array, ""]
    doubt: Float[Array, ""]
    latency_veto: Float[Array, ""]
    latency_spread: Float[Array, ""]


def effort_constants() -> EffortConstants:
    """Constants of effort choices from the package's table (section `effort.*`)."""
    shared = {"reference_dopamine": jnp.asarray(constants.constant_value("motivation.reference_dopamine"))}
    return EffortConstants(**constants.section_arrays("effort"), **shared)


def modulate_preferences(preferences: Preferences, rmtg: Lane, dopamine: Lane, p: EffortConstants) -> Preferences:
    """Modulate preferences by the circuit: the RMTg lowers the bias, lack of dopamine raises the effort weight.

        bias - veto log(rmtg / reference_rmtg)        effort_weight (dopamine / reference_dopamine)^-dearness

    The reward weight does not change: dopamine affects wanting, not liking (Berridge & Robinson 1998).

    Args:
        preferences: in health.
        rmtg: Hz. Firing rate of the RMTg.
        dopamine: uM. Dopamine in the accumbens.
        p: constants.
    """
    cost = (dopamine / p.reference_dopamine) ** -p.dearness
    return Preferences(preferences.bias - rmtg_bias_reduction(rmtg, p), preferences.reward, preferences.effort * cost)


def rmtg_bias_reduction(rmtg: Lane, p: EffortConstants) -> Lane:
    """Reduction of the bias (logit) by the RMTg's rate (Hz): logarithmic, and 0 at the healthy rate.

    The LHb acts through the RMTg (Proulx 2018). The RMTg also fires without the LHb, so silencing the LHb raises the bias
    only slightly above that of health.
    """
    return p.veto * jnp.log(rmtg / p.reference_rmtg)


def subjective_value(effort: Lane, reward: Lane, preferences: Preferences, p: EffortConstants) -> Lane:
    """Subjective value (logit) of an offer, in levels, over declining; offers and preferences broadcast."""
    worth = preferences.reward * (perceived_level(reward, p.reward_2, p.reward_3) - p.reference_reward)
    return (
        preferences.bias
        + worth
        - preferences.effort * (perceived_level(effort, p.effort_2, p.effort_3) - p.reference_effort)
    )


def perceived_level(level: Lane, second: Lane, third: Lane) -> Lane:
    """Perceived level: `second` at 2, `third` at 3, the level itself up to 1 and from 4 on, linear in between.

    >>> perceived_level(jnp.array([1.0, 2.0, 2.5, 4.0]), jnp.asarray(1.5), jnp.asarray(3.0)).tolist()
    [1.0, 1.5, 2.25, 4.0]
    """
    at_second, at_third = (jnp.maximum(1 - jnp.abs(level - centre), 0) for centre in (2, 3))
    return level + (second - 2) * at_second + (third - 3) * at_third


def task_novelty(trial: Lane, fade: Lane) -> Lane:
    """Novelty of the task, e^(-trial/fade): 1 at trial 0, the first."""
    return jnp.exp(-trial / fade)


def early_preferences(p: EffortConstants) -> Preferences:
    """Preferences by which everyone judges the first trial."""
    return Preferences(p.early_bias, p.early_reward, p.early_effort)


def acceptance_logit(value: Lane, early_value: Lane, novelty: Lane, naive: Lane) -> Lane:
    """Logit of acceptance, (1 - naive novelty) value + novelty early_value; values as from `subjective_value`."""
    return (1 - naive * novelty) * value + novelty * early_value


def log_choice_probability(accepted: Lane, logit: Lane, lapse: Lane) -> Lane:
    """Log-probability of a choice (1 accepted, 0 declined) at `logit`."""
    return jnp.log(lapse / 2 + (1 - lapse) * jax.nn.sigmoid((2 * accepted - 1) * logit))


def acceptance_probability(logit: Lane, lapse: Lane) -> Lane:
    """P(accept) at `logit`, with lapses."""
    return lapse / 2 + (1 - lapse) * jax.nn.sigmoid(logit)


def log_latency_mean(logit: Lane, rmtg: Lane, p: EffortConstants) -> Lane:
    """Mean log decision time (log s): longest at indifference, where 4 P (1 - P) = 1, and longer if the RMTg fires more."""
    doubt = 4 * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
    return jnp.log(p.latency) + p.doubt * doubt + p.latency_veto * jnp.log(rmtg / p.reference_rmtg)


def latency_log_density(latency: Lane, logit: Lane, rmtg: Lane, p: EffortConstants) -> Lane:
    """Log-density of a decision time `latency` (s): log-normal around `log_latency_mean`."""
    z = (jnp.log(latency) - log_latency_mean(logit, rmtg, p)) / p.latency_spread
    return -0.5 * z * z - jnp.log(p.latency_spread * latency) - 0.5 * jnp.log(2 * jnp.pi)


def bias_slope_on_anhedonia(bias: list[np.ndarray], drive: list[np.ndarray], depressed: float) -> float:
    """Regression slope of the bias on anhedonia (loss of drive), per standard deviation, in a mixed population.

    Args:
        bias: logit. Of healthy, resilient and depressed people. The first two make up the rest in equal parts.
        drive: of the same people.
        depressed: share of depressed people in the population.
    """
    shares = ((1 - depressed) / 2, (1 - depressed) / 2, depressed)
    weights = np.concatenate(
        [np.full(len(group), share / len(group)) for group, share in zip(bias, shares, strict=True)]
    )
    centred_bias, centred_drive = (
        np.concatenate(values) - weights @ np.concatenate(values) for values in (bias, drive)
    )
    anhedonia = -centred_drive
    return float(weights @ (centred_bias * anhedonia) / np.sqrt(weights @ anhedonia**2))
