"""Latent regression of preferences on a score, such as anhedonia, from a fit of choices.

    preferences of person i  ~  Normal(mean + slope x_i, covariance S)        x: the score in standard deviations

A regression of posterior means on the score would be attenuated, because they are shrunk towards the population mean, by
about the factor `ChoiceFit.reliability`. Here the population mean depends on the score instead. One Newton step on the
marginal likelihood from slope 0, where `fit_choices` ends, gives (score and information as in Louis 1982)

    slope = T^-1 s        s = mean over i of x_i u_i              u_i = S^-1 (m_i - mean)
                          T = mean over i of S^-1 - S^-1 C_i S^-1

with m_i and C_i the posterior mean and covariance of person i. For normal scores the estimate is unbiased, however large the
slope and whatever the form of the posteriors: by Stein's lemma, E[s] is slope times E[du / d preferences], and that is T.
Its covariance is, as in least squares, that of the residuals, (T^-1 - slope slope') / (people - 2).

S, the mean and the shared parameters are those of the fit without scores.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from .fit import ChoiceFit
from .population_parameters import NORMAL_95

MIN_SCORES = 3  # people: two leave no residual to estimate an error from


@dataclasses.dataclass(frozen=True)
class RegressionSlope:
    """Slope of the population mean of a preference on a score, per standard deviation of the score.

    Attributes:
        value: the slope, in the unit of the preference.
        error: its standard error.
        subjects: number with a score.

    >>> slope = RegressionSlope(value=-0.2, error=0.05, subjects=300)
    >>> f"{slope.low:.2f} to {slope.high:.2f}"
    '-0.30 to -0.10'
    """

    value: float
    error: float
    subjects: int

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - NORMAL_95 * self.error

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + NORMAL_95 * self.error


def has_enough_scores(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> bool:
    """Whether at least three people have the score, and not all the same."""
    complete = _complete_cases(fit, score)
    return bool(complete.sum() >= MIN_SCORES and np.ptp(score[complete]) > 0)


def regress_latent(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> dict[str, RegressionSlope]:
    """Regress latent preferences on a score, without attenuation by shrinkage.

    Args:
        fit: of the choices of these people.
        score: one per subject of `fit.subject`, in any unit; NaN where missing.

    Returns:
        By preference, the slope with its standard error, in logit or logit per level, per standard deviation of the score.

    Raises:
        ValueError: scores of another number of subjects, fewer than three, or all the same.

    References:
        Louis (1982); see the module for the estimator.
    """
    names = tuple(fit.shrunk)
    means = np.stack([fit.shrunk[name].value for name in names], axis=1)
    if np.shape(score) != (len(means),):
        raise ValueError(f"scores of shape {np.shape(score)} for {len(means)} subjects: give one per subject, or NaN.")
    complete = _complete_cases(fit, score)
    count = int(complete.sum())
    if not has_enough_scores(fit, score):
        raise ValueError(f"{count} scores: a slope needs at least {MIN_SCORES}, and not all the same.")
    x = (score[complete] - score[complete].mean()) / score[complete].std()
    mean, sd = (np.array([getattr(fit.population[name], field) for name in names]) for field in ("mean", "sd"))
    precision = np.linalg.inv(fit.correlation * np.outer(sd, sd))
    subject_score = (means[complete] - mean) @ precision
    information = precision - precision @ fit.covariance[complete].mean(axis=0) @ precision
    slope = np.linalg.solve(information, (x[:, None] * subject_score).mean(axis=0))
    residual = np.maximum(np.diag(np.linalg.inv(information)) - slope**2, 0)
    errors = np.sqrt(residual / (count - 2))
    return {
        name: RegressionSlope(float(value), float(error), count)
        for name, value, error in zip(names, slope, errors, strict=True)
    }


def _complete_cases(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> Bool[np.ndarray, " subject"]:
    """Who has a score and finite estimates."""
    return np.isfinite(score) & np.isfinite(np.stack([estimates.value for estimates in fit.shrunk.values()])).all(
        axis=0
    )
