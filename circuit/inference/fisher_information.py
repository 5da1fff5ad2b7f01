"""Fisher information about free numbers: steps that follow from it, covariance, and directions that the data hardly see.

Numbers that subjects share couple them all; numbers of their own do not couple with each other. The information is
therefore an arrow, one small block A per subject, one block B for what is shared, C between, and every solve is a Schur
complement: S = B - sum of C' A^-1 C. Everything here is NumPy in float64; blocks are as small as there are unknowns.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from .likelihood import Likelihood

InformationBlocks = Float[np.ndarray, "start subject number number"]
SubjectVectors = Float[np.ndarray, "start subject number"]


@dataclasses.dataclass(frozen=True)
class ScoreAndInformation:
    """What the data say at some free numbers. Subjects whose numbers are not finite are `bad`, and hold 0.

    Attributes:
        log_likelihood: (start, subject).
        slope: of it by free numbers.
        information: Fisher's, expected over the noise.
        bad: (start, subject).
    """

    log_likelihood: Float[np.ndarray, "start subject"]
    slope: SubjectVectors
    information: InformationBlocks
    bad: np.ndarray


def score_and_information(seen: Likelihood) -> ScoreAndInformation:
    """Sums over the observations of each subject."""
    each, score, weight, jacobian = (
        np.asarray(part, float) for part in (seen.each, seen.score, seen.weight, seen.jacobian)
    )
    finite = [np.isfinite(each).all(axis=-1), np.isfinite(score).all(axis=-1), np.isfinite(jacobian).all(axis=(0, -1))]
    bad = ~np.logical_and.reduce(finite)
    each, score, weight = (np.where(bad[..., None], 0, part) for part in (each, score, weight))
    jacobian = np.where(bad[..., None], 0, jacobian)
    slope = np.einsum("kabo,abo->abk", jacobian, score)
    information = np.einsum("kabo,abo,labo->abkl", jacobian, weight, jacobian)
    return ScoreAndInformation(each.sum(axis=-1), slope, information, bad)


def solve_information_system(
    blocks: InformationBlocks, prior: Float[np.ndarray, " number"], shared: np.ndarray, right: SubjectVectors, damping
) -> SubjectVectors:
    """The x where (information + prior) x = right: the scoring step, for a slope on the right.

    Args:
        blocks: information of every subject.
        prior: precision of each number; that of shared ones counts once.
        shared: of each number, whether subjects share it.
        right: of every subject; its shared part is summed over them, prior included by the caller.
        damping: (start, subject) or (start, 1), relative increase of the diagonal.
    """
    own, common = np.flatnonzero(~shared), np.flatnonzero(shared)
    a, b, c, of_own = _arrowhead_blocks(blocks, prior, own, common, damping)
    x = np.zeros_like(right)
    if not common.size:
        x[..., own] = np.linalg.solve(a, right[..., own, None])[..., 0]
        return x
    schur = b - np.einsum("sikm,sikn->smn", c, of_own)
    gone = np.einsum("sikm,sik->sm", of_own, right[..., own])
    y = np.linalg.solve(schur, (right[..., common].sum(axis=1) - gone)[..., None])[..., 0]
    x[..., common] = y[:, None]
    if own.size:
        rest = right[..., own] - np.einsum("sikm,sm->sik", c, y)
        x[..., own] = np.linalg.solve(a, rest[..., None])[..., 0]
    return x


def posterior_covariance(
    blocks: InformationBlocks, prior: Float[np.ndarray, " number"], shared: np.ndarray
) -> InformationBlocks:
    """Of all numbers that concern a subject, shared ones included: inverse of information and prior."""
    own, common = np.flatnonzero(~shared), np.flatnonzero(shared)
    a, b, c, of_own = _arrowhead_blocks(blocks, prior, own, common, np.zeros(blocks.shape[:2]))
    found = np.zeros_like(blocks)
    inverse = np.linalg.inv(a)
    found[..., own[:, None], own] = inverse
    if common.size:
        of_common = np.linalg.inv(b - np.einsum("sikm,sikn->smn", c, of_own))[:, None]
        between = -of_own @ of_common
        found[..., common[:, None], common] = of_common
        found[..., own[:, None], common] = between
        found[..., common[:, None], own] = np.swapaxes(between, -1, -2)
        found[..., own[:, None], own] += of_own @ of_common @ np.swapaxes(of_own, -1, -2)
    return found


def marginal_information(blocks: InformationBlocks, prior: Float[np.ndarray, " number"], shared: np.ndarray):
    """Information of all subjects about what they share, their own numbers unknown: (start, shared, shared)."""
    own, common = np.flatnonzero(~shared), np.flatnonzero(shared)
    _, b, c, of_own = _arrowhead_blocks(blocks, prior, own, common, np.zeros(blocks.shape[:2]))
    return b - np.diag(prior[common]) - np.einsum("sikm,sikn->smn", c, of_own)


def _arrowhead_blocks(blocks: InformationBlocks, prior, own: np.ndarray, common: np.ndarray, damping):
    """A per subject, B, C per subject, and A^-1 C."""
    grow = lambda of, by: of + by[..., None, None] * of * np.eye(of.shape[-1])
    a = grow(blocks[..., own[:, None], own] + np.diag(prior[own]), damping)
    b = grow(blocks[..., common[:, None], common].sum(axis=1) + np.diag(prior[common]), np.asarray(damping).max(axis=1))
    c = blocks[..., own[:, None], common]
    return a, b, c, np.linalg.solve(a, c) if own.size and common.size else np.zeros_like(c)
