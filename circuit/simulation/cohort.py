"""Cohorts: many subjects, each a point in parameter space and a slow state of its own.

A subject's identity is data: its number names its traits and its noise, so it is the same person in any cohort, batch or
order. Traits are log-normal around the typical subject and correlated; their spreads are assumed, for no joint distribution
of these quantities has been measured.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from ...kernels import channel_keys, entry_point, normals_at_step
from ..data.describe import are_arrays, describe, describe_html, preformatted_html
from ..model.parameters import Parameters, select_subjects
from ..model.slow_clock import SlowState

TRAITS_STEP = 0xFFFFFFFE  # the step of the noise that names traits; no course lasts so long

# Path in `Parameters`: spread, the standard deviation of the logarithm over people. Assumed.
TRAIT_SPREADS = {
    "plasticity.susceptibility": 0.15,
    "synapses.strength": 0.05,
    "synapses.inhibition": 0.05,
    "synapses.control": 0.10,
    "dopamine.number_half": 0.03,
    "dopamine.uptake_maximum": 0.15,
    "plasticity.depression_rate": 0.25,
    "block.turnover": 0.30,
    "clearance": 0.20,
    "methylphenidate.occupancy.half": 0.30,
    "bupropion.occupancy.half": 0.30,
    "motivation.mood_serotonin": 0.30,
    "motivation.blunting": 0.40,
}
# Correlations between traits; all others are 0. Assumed: those whom stress marks have less prefrontal control and stronger
# habenular input (Li 2011: input strength predicts helplessness).
TRAIT_CORRELATIONS = {
    ("plasticity.susceptibility", "synapses.control"): -0.4,
    ("plasticity.susceptibility", "synapses.strength"): 0.3,
    ("motivation.mood_serotonin", "motivation.blunting"): 0.5,
}


class Cohort(eqx.Module):
    """Virtual subjects.

    Attributes:
        subject: the number of each, which names its traits and its noise.
        parameters: constants; leaves are scalars or hold one value per subject.
        state: where each is now.
        seed: names the noise of the whole cohort.
    """

    subject: UInt[Array, " subject"]
    parameters: Parameters
    state: SlowState
    seed: UInt[Array, ""]

    def __len__(self) -> int:
        return self.subject.shape[0]

    def __getitem__(self, which) -> "Cohort":
        """Some of the subjects, by an index array, a mask or a slice; a single number gives a cohort of one."""
        which = np.atleast_1d(np.arange(len(self))[which])
        state = jax.tree.map(lambda leaf: leaf[which], self.state)
        return Cohort(self.subject[which], select_subjects(self.parameters, which), state, self.seed)

    def __repr__(self) -> str:
        """How many subjects, their numbers, and the mean and spread of their slow states, in at most 12 lines."""
        # A tree of shapes, specs or gradients, as JAX prints it in an error, has no summary.
        return describe(*self._summary()) if are_arrays(self.subject, self.state.gain) else super().__repr__()

    def _repr_html_(self) -> str:
        return (
            describe_html(*self._summary())
            if are_arrays(self.subject, self.state.gain)
            else preformatted_html(repr(self))
        )

    def _summary(self) -> tuple[str, list[tuple[str, object]]]:
        """Title and rows of the summary."""
        numbers = np.asarray(self.subject)
        rows: list[tuple[str, object]] = []
        if numbers.size:
            rows.append(("subjects", f"{numbers.min()} to {numbers.max()}"))
        rows.append(("seed", int(self.seed)))
        for name in ("gain", "release", "inhibition", "kir_shift", "control", "mood"):
            values = np.asarray(getattr(self.state, name))
            if values.size:
                rows.append((name, f"mean {values.mean():.3g}, s.d. {values.std():.2g}"))
        return f"Cohort of {len(self)} subjects", rows


def with_traits(
    p: Parameters, subject: UInt[Array, " subject"], seed: UInt[Array, ""], shifts: dict[str, float]
) -> Parameters:
    """The parameters of `subject`: typical `p` times exp(spread (shift + correlated normal)) for each trait.

    Args:
        p: the typical subject; the leaves of `TRAIT_SPREADS` must be scalars.
        subject: numbers of the subjects.
        seed: of the cohort.
        shifts: by trait, how many spreads the cohort's mean lies above the typical subject.

    Raises:
        ValueError: a shift of something that is no trait.
    """
    if unknown := set(shifts) - set(TRAIT_SPREADS):
        raise ValueError(f"no traits {sorted(unknown)}; choose from {sorted(TRAIT_SPREADS)}.")
    return _draw_traits(p, subject, seed, jnp.asarray([shifts.get(path, 0.0) for path in TRAIT_SPREADS]))


@entry_point  # operation by operation, it would compile some seventy programs
def _draw_traits(p, subject, seed, shifts):
    z = normals_at_step(channel_keys(seed, len(TRAIT_SPREADS)), subject, jnp.uint32(TRAITS_STEP))
    z = jnp.asarray(_trait_cholesky(), z.dtype) @ z
    for i, (path, spread) in enumerate(TRAIT_SPREADS.items()):
        typical = get_leaf(p, path)
        factor = jnp.exp(spread * (shifts[i].astype(z.dtype) + z[i])).astype(typical.dtype)
        p = eqx.tree_at(functools.partial(get_leaf, path=path), p, typical * factor)
    return p


def get_leaf(tree, path: str):
    """The leaf at a dotted path."""
    return functools.reduce(getattr, path.split("."), tree)


@functools.cache
def _trait_cholesky() -> np.ndarray:
    names = list(TRAIT_SPREADS)
    correlation = np.eye(len(names))
    for (a, b), value in TRAIT_CORRELATIONS.items():
        i, j = names.index(a), names.index(b)
        correlation[i, j] = correlation[j, i] = value
    return np.linalg.cholesky(correlation)
