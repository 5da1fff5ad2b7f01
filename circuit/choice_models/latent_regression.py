"""How people's preferences go with a score of theirs, such as of anhedonia: a latent regression on a fit of choices.

    preferences of person i  ~  Normal(mean + slope x_i, covariance S)        x: the score in standard deviations

Everyone's estimates are no stand-in for preferences here. Posterior means lean on the population, so that their slope on a
score is smaller than that of the people, about by the share that `ChoiceFit.reliability` says. Instead the mean of the
population moves with the score: from slope 0, where `fit_choices` ends, one of Newton's steps on the marginal likelihood
leads to (score and information as Louis 1982 has them)

    slope = T^-1 s        s = mean over i of x_i u_i              u_i = S^-1 (m_i - mean)
                          T = mean over i of S^-1 - S^-1 C_i S^-1

with m_i and C_i the mean and covariance of a person's posterior. That is the slope of the m_i over their reliability, all
preferences at once. For normal scores it has no bias, however large the slope and whatever the form of the posteriors: by
Stein's lemma s is slope times the mean of du/d(preferences), and that mean is T. Its covariance is, as in least squares,
that of what the score leaves over, (T^-1 - slope slope') / (people - 2).

S, the mean and what people share are taken as the fit found them, without the scores.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from .fit import NORMAL_95, ChoiceFit

MIN_SCORES = 3  # people: with two, a line leaves nothing over to tell its error by


@dataclasses.dataclass(frozen=True)
class RegressionSlope:
    """By how much the population's mean of a preference moves per standard deviation of a score.

    Attributes:
        value: the slope, in the preference's unit.
        error: its standard error.
        subjects: who have the score.
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
    """Whether enough people have the score, three or more who differ."""
    there = _complete_cases(fit, score)
    return bool(there.sum() >= MIN_SCORES and np.ptp(score[there]) > 0)


def regress_latent(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> dict[str, RegressionSlope]:
    """Slope of each preference on a score, by name, not attenuated by the shrinkage of estimates.

    Args:
        fit: of these people's choices.
        score: one for each of `fit.subject`, in any unit; NaN where there is none.

    Raises:
        ValueError: scores of another number of subjects, or fewer than three, or all the same.
    """
    names = tuple(fit.shrunk)
    means = np.stack([fit.shrunk[name].value for name in names], axis=1)
    if np.shape(score) != (len(means),):
        raise ValueError(f"scores of shape {np.shape(score)} for {len(means)} subjects: give one for each, or NaN.")
    there = _complete_cases(fit, score)
    count = int(there.sum())
    if not has_enough_scores(fit, score):
        raise ValueError(f"{count} scores, of which a slope needs {MIN_SCORES} that differ.")
    x = (score[there] - score[there].mean()) / score[there].std()
    mean, sd = (np.array([getattr(fit.population[name], of) for name in names]) for of in ("mean", "sd"))
    precision = np.linalg.inv(fit.correlation * np.outer(sd, sd))
    pull = (means[there] - mean) @ precision
    told = precision - precision @ fit.covariance[there].mean(axis=0) @ precision
    slope = np.linalg.solve(told, (x[:, None] * pull).mean(axis=0))
    left = np.maximum(np.diag(np.linalg.inv(told)) - slope**2, 0)
    errors = np.sqrt(left / (count - 2))
    return {
        name: RegressionSlope(float(value), float(error), count)
        for name, value, error in zip(names, slope, errors, strict=True)
    }


def _complete_cases(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> Bool[np.ndarray, " subject"]:
    """Who has a score and whose preferences are told."""
    return np.isfinite(score) & np.isfinite(np.stack([each.value for each in fit.shrunk.values()])).all(axis=0)
