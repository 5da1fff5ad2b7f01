"""How people's preferences go with a score of theirs, such as of anhedonia: a latent regression on a fit of choices.

    preferences of person i  ~  Normal(mean + slope x_i, covariance)        x: the score in standard deviations

Everyone's estimates are no stand-in for preferences here. Posterior means lean on the population, so that their slope on a
score comes out smaller than that of the people, about by the share that `ChoiceFit.reliability` says. Instead the mean of
the population moves with the score, and every person's posterior counts as far as it says something of its own. One of
Newton's steps leads there from slope 0, which is where `fit_choices` ends (score and information: Louis 1982, as in
`choice_search`):

    score        s = sum over i of  X_i (x) P (m_i - mean)             X_i = (1, x_i); P: inverse of the covariance
    information  I = sum over i of  X_i X_i' (x) (P - P C_i P)         m_i, C_i: mean and covariance of the posterior

I^-1 s holds what the mean and the slope move by, I^-1 their covariance. With normal posteriors the step is exact; with
those of choices it is so for slopes that are small beside the spread of the population, as are all that were published.
The covariance and what people share are taken as the fit found them, without the scores.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from .choice_fit import NORMAL_95, ChoiceFit


@dataclasses.dataclass(frozen=True)
class Slope:
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


def relate(fit: ChoiceFit, score: Float[np.ndarray, " subject"]) -> dict[str, Slope]:
    """Slope of each preference on a score, by name, not attenuated by the shrinkage of estimates.

    Args:
        fit: of these people's choices.
        score: one for each of `fit.subject`, in any unit; NaN where there is none.

    Raises:
        ValueError: scores of another number of subjects, or fewer than two that differ.
    """
    names = tuple(fit.shrunk)
    means = np.stack([fit.shrunk[name].value for name in names], axis=1)
    if np.shape(score) != (len(means),):
        raise ValueError(f"scores of shape {np.shape(score)} for {len(means)} subjects: give one for each, or NaN.")
    there = np.isfinite(score) & np.isfinite(means).all(axis=1)
    if np.unique(score[there]).size < 2:
        raise ValueError(f"the {there.sum()} scores do not differ: there is no slope on them.")
    x = (score[there] - score[there].mean()) / score[there].std()
    beside = np.stack([np.ones_like(x), x], axis=1)
    centre, spread = (np.array([getattr(fit.population[name], of) for name in names]) for of in ("mean", "sd"))
    precision = np.linalg.inv(fit.correlation * np.outer(spread, spread))
    pull = (means[there] - centre) @ precision
    told = precision - precision @ fit.covariance[there] @ precision
    size = 2 * len(names)
    towards = np.einsum("ia,ij->aj", beside, pull).reshape(size)
    information = np.einsum("ia,ib,ijk->ajbk", beside, beside, told).reshape(size, size)
    covariance = np.linalg.inv(information)
    slopes, errors = (each[len(names) :] for each in (covariance @ towards, np.sqrt(np.diag(covariance))))
    return {
        name: Slope(float(value), float(error), int(there.sum()))
        for name, value, error in zip(names, slopes, errors, strict=True)
    }
