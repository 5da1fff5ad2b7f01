"""Whether an effort is worth its reward, how soon one decides, and where the circuit enters.

An offer of some effort and reward is accepted with

    P(accept) = lapse/2 + (1 - lapse) sigmoid((1 - naive f) a + f a0)        f = e^(-t/fade)
    a = bias + reward_weight (R - R0) - effort_weight (E - E0)

at trial t = 0, 1, ...; R and E are levels as they are felt, R0 and E0 a reference offer, so that the bias is the
willingness to take that one. At the first trials, before the effort has been felt, one's own preferences count less
(`naive`), and everyone judges by the same expectation, a0: as `a`, with the preferences `early_*`. The circuit enters in
one place, `modulate_preferences`: the veto of the LHb acts on the bias, by way of the RMTg; dopamine sets how dear effort
is; how much a reward is liked enters nowhere.

Which form choices have was decided on those of 479 people (Mehrhof & Nord 2024), each half predicted from the other; see
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
    """What people differ in when they weigh effort. Each is a scalar, or one value per subject.

    Attributes:
        bias: logit. Willingness to take the reference offer.
        reward: logit per level of reward.
        effort: logit per level of effort.
    """

    bias: Float[Array, "*#subject"]
    reward: Float[Array, "*#subject"]
    effort: Float[Array, "*#subject"]


class EffortConstants(eqx.Module):
    """Constants of effort choice that people share.

    Attributes:
        reference_effort, reference_reward: levels. The offer at which the bias is read.
        effort_2, effort_3, reward_2, reward_3: levels. What the second and third of four feel like, 1 and 4 being 1 and 4.
        early_bias, early_reward, early_effort: logit, and logit per level. What everyone judges by at the first trial.
        naive: share by which one's own preferences do not yet count there.
        fade: trials over which that wears off to 1/e.
        lapse: share of choices made without regard to the offer.
        veto: logit per e-fold of the RMTg's rate above the healthy one.
        reference_rmtg: Hz. RMTg rate of the typical healthy subject.
        dearness: power of relative dopamine by which effort becomes dearer as dopamine falls.
        reference_dopamine: uM. Accumbens dopamine of the typical healthy subject.
        latency: s. Median time to decide where nothing is in doubt.
        doubt: how much longer, as a log ratio, where both choices are equally good.
        latency_veto: log ratio of latencies per e-fold of the RMTg's rate above the healthy one.
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
    """The constants of the package's table (section `effort.*`)."""
    shared = {"reference_dopamine": jnp.asarray(constants.constant_value("motivation.reference_dopamine"))}
    return EffortConstants(**constants.section_arrays("effort"), **shared)


def modulate_preferences(preferences: Preferences, rmtg: Lane, dopamine: Lane, p: EffortConstants) -> Preferences:
    """The preferences of subjects whose RMTg fires at `rmtg` (Hz) and whose accumbens dopamine is `dopamine` (uM).

    The reward weight stays: what is liked as before (Berridge & Robinson 1998) is worth as much as before.
    """
    dear = (dopamine / p.reference_dopamine) ** -p.dearness
    return Preferences(preferences.bias - rmtg_bias_reduction(rmtg, p), preferences.reward, preferences.effort * dear)


def rmtg_bias_reduction(rmtg: Lane, p: EffortConstants) -> Lane:
    """What the RMTg's rate (Hz) takes from the bias, logit: logarithmic, and 0 in health.

    The LHb has its say by way of the RMTg (Proulx 2018). That fires without a habenula too, so a silent LHb leaves little
    to be gained over a healthy one.
    """
    return p.veto * jnp.log(rmtg / p.reference_rmtg)


def subjective_value(effort: Lane, reward: Lane, preferences: Preferences, p: EffortConstants) -> Lane:
    """How much better than declining the offer is, logit; offers and preferences broadcast."""
    worth = preferences.reward * (perceived_level(reward, p.reward_2, p.reward_3) - p.reference_reward)
    return (
        preferences.bias
        + worth
        - preferences.effort * (perceived_level(effort, p.effort_2, p.effort_3) - p.reference_effort)
    )


def perceived_level(level: Lane, second: Lane, third: Lane) -> Lane:
    """What a level feels like: `second` at 2, `third` at 3, itself at 1 and below and at 4 and beyond, straight between."""
    near = lambda at: jnp.maximum(1 - jnp.abs(level - at), 0)
    return level + (second - 2) * near(2) + (third - 3) * near(3)


def task_novelty(trial: Lane, fade: Lane) -> Lane:
    """How new the task is at a trial, of which the first is 0: 1 there, and 1/e after `fade` more."""
    return jnp.exp(-trial / fade)


def early_preferences(p: EffortConstants) -> Preferences:
    """What everyone judges by at the first trial."""
    return Preferences(p.early_bias, p.early_reward, p.early_effort)


def acceptance_logit(appraisal: Lane, expected: Lane, freshness: Lane, naive: Lane) -> Lane:
    """Logit of acceptance: one's own appraisal as far as it counts already, and what everyone `expected` as far as not."""
    return (1 - naive * freshness) * appraisal + freshness * expected


def log_choice_probability(accepted: Lane, logit: Lane, lapse: Lane) -> Lane:
    """Log-probability of a choice (1 accepted, 0 declined) at `logit`."""
    return jnp.log(lapse / 2 + (1 - lapse) * jax.nn.sigmoid((2 * accepted - 1) * logit))


def acceptance_probability(logit: Lane, lapse: Lane) -> Lane:
    """P(accept) at `logit`."""
    return lapse / 2 + (1 - lapse) * jax.nn.sigmoid(logit)


def log_latency_mean(logit: Lane, rmtg: Lane, p: EffortConstants) -> Lane:
    """Mean log latency (log s): longest in doubt, where 4 P (1 - P) is 1, and longer under a veto."""
    doubt = 4 * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
    return jnp.log(p.latency) + p.doubt * doubt + p.latency_veto * jnp.log(rmtg / p.reference_rmtg)


def latency_log_density(latency: Lane, logit: Lane, rmtg: Lane, p: EffortConstants) -> Lane:
    """Log-density of a `latency` (s), log-normal around `log_latency_mean`."""
    z = (jnp.log(latency) - log_latency_mean(logit, rmtg, p)) / p.latency_spread
    return -0.5 * z * z - jnp.log(p.latency_spread * latency) - 0.5 * jnp.log(2 * jnp.pi)


def bias_slope_on_anhedonia(bias: list[np.ndarray], drive: list[np.ndarray], depressed: float) -> float:
    """Change of the bias per standard deviation of anhedonia, the loss of drive, where a share `depressed` is so.

    Args:
        bias: logit. Of healthy, resilient and depressed people, of whom the first two make up the rest in equal parts.
        drive: of the same.
        depressed: share of all people.
    """
    shares = ((1 - depressed) / 2, (1 - depressed) / 2, depressed)
    weights = np.concatenate([np.full(len(each), share / len(each)) for each, share in zip(bias, shares, strict=True)])
    apart = lambda values: np.concatenate(values) - weights @ np.concatenate(values)
    anhedonia = -apart(drive)
    return float(weights @ (apart(bias) * anhedonia) / np.sqrt(weights @ anhedonia**2))
