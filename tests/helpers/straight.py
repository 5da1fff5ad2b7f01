"""A likelihood whose posterior is known in closed form: what is observed is linear in the free numbers."""

import numpy as np
from people import strained

from habenula.circuit.inference.likelihood import Likelihood, recovery_problem
from habenula.circuit.inference.observations import Gaussian, Observed
from habenula.circuit.model.interventions import Ketamine

ARM = (Ketamine(0.5, 0.0),)
SD = 0.2
SLOPES = np.array([[1.0, 0.5, -0.3, 0.2], [0.2, -1.0, 0.4, 0.8]])  # (number, observation)
DAYS = (1.0, 2.0, 3.0, 4.0)
OVER = {"mg_per_kg": "subject", "synapses.everyday": "subject"}


def question(values, over=OVER, people=None, **options):
    """A question about values of (subject, observation)."""
    data = Observed("vta_output", DAYS, Gaussian(SD), values)
    return recovery_problem(people or strained(len(values)), ARM, data, over, everyday="known", **options)


def likelihood(slopes=SLOPES, bad=lambda free: np.zeros(free.shape[1:], bool)):
    """A stand-in for `prediction.likelihood`, not finite where `bad` says so."""

    def stand_in(free, problem, task):
        free, value = np.asarray(free, float), np.asarray(problem.data[0].value, float)
        expected = np.einsum("ksi,ko->sio", free, slopes)
        expected[bad(free)] = np.nan
        known = ~np.isnan(value)
        miss = np.where(known, value - expected, 0)
        weight = np.broadcast_to(known / SD**2, expected.shape)
        jacobian = np.broadcast_to(slopes[:, None, None], (len(slopes), *expected.shape))
        return Likelihood(-np.square(miss) * weight / 2, expected, miss * weight, weight, jacobian)

    return stand_in


def posterior(values, centre, spread, slopes=SLOPES):
    """Mean and covariance of each subject's normal posterior."""
    means, covariances = [], []
    for value, middle in zip(values, centre, strict=True):
        known = np.isfinite(value)
        a = slopes[:, known] / SD
        c = np.linalg.inv(a @ a.T + np.diag(1 / np.square(spread)))
        covariances.append(c)
        means.append(c @ (a @ value[known] / SD + middle / np.square(spread)))
    return np.array(means), np.array(covariances)
