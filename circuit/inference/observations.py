"""Observations: what was measured of each subject, when, and with which noise.

    Observed("vta_output", day=(7, 14, 21), noise=Gaussian(0.3), value=array)     # (subject, day); NaN where missing
    measure(cohort, arm, [Observed("mood", (7, 14), Gaussian(0.05))], seed=1)      # simulated, for a plan

A noise model gives the log-likelihood of a value under the expected quantity, and the Fisher information that a value
carries about that quantity: the expected square of the slope of the log-likelihood.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels import Plan
from ..model.interventions import Arm, Intervention
from ..simulation.cohort import Cohort
from ..simulation.course import COURSE_QUANTITIES, DEFAULT_PLAN, course

EXPECTATION_FLOOR = 1e-4  # expected count, or distance of a probability from 0 and 1, below which it counts as that
OUTER_EDGE_DISTANCE = 1e6  # spreads from the middle of an ordinal scale to the outer edges of its outer levels


def _as_array(value) -> Array:
    return jnp.asarray(value, jnp.result_type(float))


class Gaussian(eqx.Module):
    """value = quantity + normal noise.

    Attributes:
        sd: standard deviation, in the unit of the quantity; one, per day, or (subject, day).
    """

    sd: Array = eqx.field(converter=_as_array)

    def log_likelihood(self, value: Array, expected: Array) -> Array:
        """Of each value, with its normalisation."""
        return -jnp.square((value - expected) / self.sd) / 2 - jnp.log(self.sd) - np.log(2 * np.pi) / 2

    def information(self, expected: Array) -> Array:
        """1 / variance."""
        return jnp.broadcast_to(1 / jnp.square(self.sd), expected.shape)

    def drawn(self, expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Values under the noise."""
        return expected + np.asarray(self.sd, float) * generator.normal(size=expected.shape)

    def refuse(self) -> str:
        """What is wrong with the constants, or nothing."""
        return "" if _is_positive(self.sd) else f"sd={_smallest_value(self.sd):g} must be a positive number"

    def impossible(self, value: np.ndarray) -> np.ndarray:
        """Which values cannot be."""
        return np.isinf(value)


class Poisson(eqx.Module):
    """Counts: value ~ Poisson(exposure x quantity), as of spikes, where the quantity is in Hz and the exposure in s.

    Attributes:
        exposure: one, per day, or (subject, day).
    """

    exposure: Array = eqx.field(converter=_as_array, default=1.0)

    def log_likelihood(self, value: Array, expected: Array) -> Array:
        """Of each count."""
        mean = self._mean(expected)
        return value * jnp.log(mean) - mean - jax.lax.lgamma(value + 1)

    def information(self, expected: Array) -> Array:
        """Exposure over quantity."""
        return jnp.square(self.exposure) / self._mean(expected)

    def drawn(self, expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Counts under the noise."""
        return generator.poisson(np.maximum(np.asarray(self.exposure, float) * expected, EXPECTATION_FLOOR)).astype(
            float
        )

    def refuse(self) -> str:
        """What is wrong with the constants, or nothing."""
        return (
            ""
            if _is_positive(self.exposure)
            else f"exposure={_smallest_value(self.exposure):g} must be a positive number"
        )

    def impossible(self, value: np.ndarray) -> np.ndarray:
        """Which values cannot be."""
        return np.isinf(value) | (value < 0) | (value != np.round(value))

    def _mean(self, expected: Array) -> Array:
        return jnp.maximum(self.exposure * expected, EXPECTATION_FLOOR)


class Binomial(eqx.Module):
    """Successes in `trials`, each with the quantity, a share from 0 to 1, as its probability; Bernoulli for one trial.

    Attributes:
        trials: one number, per day, or (subject, day).
    """

    trials: Array = eqx.field(converter=_as_array, default=1.0)

    def log_likelihood(self, value: Array, expected: Array) -> Array:
        """Of each number of successes."""
        p, n = self._share(expected), self.trials
        chosen = jax.lax.lgamma(n + 1) - jax.lax.lgamma(value + 1) - jax.lax.lgamma(n - value + 1)
        return chosen + value * jnp.log(p) + (n - value) * jnp.log1p(-p)

    def information(self, expected: Array) -> Array:
        """Trials over p (1 - p)."""
        p = self._share(expected)
        return self.trials / (p * (1 - p))

    def drawn(self, expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Numbers of successes under the noise."""
        share = np.clip(expected, EXPECTATION_FLOOR, 1 - EXPECTATION_FLOOR)
        return generator.binomial(np.broadcast_to(self.trials, share.shape).astype(int), share).astype(float)

    def refuse(self) -> str:
        """What is wrong with the constants, or nothing."""
        fine = _is_positive(self.trials) and bool((np.asarray(self.trials) == np.round(self.trials)).all())
        return "" if fine else f"trials={_smallest_value(self.trials):g} must be whole and at least 1"

    def impossible(self, value: np.ndarray) -> np.ndarray:
        """Which values cannot be."""
        return np.isinf(value) | (value < 0) | (value > np.asarray(self.trials)) | (value != np.round(value))

    def _share(self, expected: Array) -> Array:
        return jnp.clip(expected, EXPECTATION_FLOOR, 1 - EXPECTATION_FLOOR)


class Ordinal(eqx.Module):
    """A score from 0 to the number of `cuts`: P(score <= j) = sigma((cuts[j] - quantity) / spread).

    The cumulative-logit model (McCullagh 1980). With one cut it is a yes or no that turns at the cut.

    Attributes:
        cuts: rising, in the unit of the quantity.
        spread: of the rater, in the same unit.
    """

    cuts: Float[Array, " cut"] = eqx.field(converter=_as_array)
    spread: Float[Array, ""] = eqx.field(converter=_as_array, default=1.0)

    def log_likelihood(self, value: Array, expected: Array) -> Array:
        """Of each score."""
        lower, upper = self._edges(expected)
        level = value.astype(jnp.int32)[None]
        low, high = (jnp.take_along_axis(edge, level, axis=0)[0] for edge in (lower, upper))
        # sigma(h) - sigma(l) = sigma(h) sigma(-l) (1 - exp(l - h)), which loses no digits
        return jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log1p(-jnp.exp(low - high))

    def information(self, expected: Array) -> Array:
        """Sum over levels of the squared slope of each probability over that probability."""
        lower, upper = self._edges(expected)
        steep = lambda u: jax.nn.sigmoid(u) * jax.nn.sigmoid(-u)
        share = jax.nn.sigmoid(upper) * jax.nn.sigmoid(-lower) * -jnp.expm1(lower - upper)
        slope = (steep(upper) - steep(lower)) / self.spread
        return (jnp.square(slope) / jnp.maximum(share, EXPECTATION_FLOOR**2)).sum(axis=0)

    def drawn(self, expected: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Scores under the noise."""
        felt = expected + float(self.spread) * generator.logistic(size=expected.shape)
        return np.searchsorted(np.asarray(self.cuts, float), felt).astype(float)

    def refuse(self) -> str:
        """What is wrong with the constants, or nothing."""
        if not _is_positive(self.spread):
            return f"spread={_smallest_value(self.spread):g} must be a positive number"
        rising = self.cuts.size and bool((np.diff(np.asarray(self.cuts)) > 0).all())
        return "" if rising else f"cuts={np.asarray(self.cuts).tolist()} must rise"

    def impossible(self, value: np.ndarray) -> np.ndarray:
        """Which values cannot be."""
        return np.isinf(value) | (value < 0) | (value > self.cuts.size) | (value != np.round(value))

    def _edges(self, expected: Array) -> tuple[Array, Array]:
        """Lower and upper edge of each level, in spreads from what is expected: (level, *shape)."""
        inner = (self.cuts.reshape(-1, *[1] * expected.ndim) - expected[None]) / self.spread
        outer = jnp.full_like(inner[:1], OUTER_EDGE_DISTANCE)
        return jnp.concatenate([-outer, inner]), jnp.concatenate([inner, outer])


NoiseModel = Gaussian | Poisson | Binomial | Ordinal


class Observed(eqx.Module):
    """One quantity, measured of every subject on the same days.

    Attributes:
        quantity: name from `course.COURSE_QUANTITIES`.
        day: when, on the clock of the course that begins on day 0, at whole hours; a record stands at the end of an hour.
        noise: of the measurement.
        value: (subject, day), NaN where missing; None for a measurement that is only planned.
    """

    quantity: str = eqx.field(static=True)
    day: tuple[float, ...] = eqx.field(static=True, converter=lambda day: tuple(map(float, np.atleast_1d(day))))
    noise: NoiseModel
    value: Float[Array, "subject day"] | None = eqx.field(
        converter=lambda value: None if value is None else _as_array(value), default=None
    )

    @property
    def hours(self) -> tuple[int, ...]:
        """The same times in hours."""
        return tuple(round(24 * day) for day in self.day)

    def among(self, every: int) -> np.ndarray:
        """Where they stand among records of a course that are `every` so many hours apart."""
        return np.array(self.hours) // every - 1


def simulate_observations(
    cohort: Cohort, arm: Arm | Intervention, planned: Sequence[Observed], seed: int = 0, plan: Plan = DEFAULT_PLAN
) -> tuple[Observed, ...]:
    """Simulate a course and measure it: `planned` with values of (subject, day), under their noise.

    Args:
        cohort: subjects, whose own everyday noise they live with.
        arm: what is done to them.
        planned: what is measured; values that it holds are not looked at.
        seed: of the measurement noise.
        plan: how to use the hardware.

    Raises:
        ValueError: see `align_observations`.
    """
    empty = align_observations(
        [eqx.tree_at(lambda o: o.value, each, None, is_leaf=_is_none) for each in planned], len(cohort)
    )
    hours, every = record_schedule(empty)
    names = tuple(dict.fromkeys(each.quantity for each in empty))
    seen = course(cohort, arm, hours / 24, save_every=every, record=names, plan=plan)
    generator, found = np.random.default_rng(seed), []
    for each in empty:
        expected = np.asarray(seen[each.quantity], float)[:, each.among(every)]
        found.append(Observed(each.quantity, each.day, each.noise, each.noise.drawn(expected, generator)))
    return tuple(found)


def record_schedule(data: Sequence[Observed]) -> tuple[int, int]:
    """Length of the course that `data` need, and the hours between its records; both in h."""
    hours = [hour for each in data for hour in each.hours]
    return max(hours), int(np.gcd.reduce(hours))


def align_observations(data: Observed | Sequence[Observed], subjects: int) -> tuple[Observed, ...]:
    """The data after every check, with a value (NaN where planned) and noise constants for every (subject, day).

    Raises:
        TypeError: what is not `Observed`.
        ValueError: nothing observed, an unknown quantity, days that are not whole hours above 0 or come twice, values of
            another shape or impossible under their noise, impossible noise; with the row and the day.
    """
    data = (data,) if isinstance(data, Observed) else tuple(data)
    if not data:
        raise ValueError("nothing is observed: give at least one Observed.")
    return tuple(_align_observation(each, subjects) for each in data)


def _align_observation(each: Observed, subjects: int) -> Observed:
    if not isinstance(each, Observed):
        raise TypeError(f"{each!r} is not Observed; see habenula.circuit.observations.")
    if each.quantity not in COURSE_QUANTITIES:
        raise ValueError(f"cannot observe {each.quantity!r}; choose from {sorted(COURSE_QUANTITIES)}.")
    hours = np.asarray(each.day) * 24
    if not hours.size or (hours < 0.5).any() or (abs(hours - np.round(hours)) > 1e-3).any():
        raise ValueError(f"{each.quantity}: day={each.day} must be days above 0 on whole hours, such as 7 or 1 + 4/24.")
    if len(set(each.hours)) < len(each.hours):
        raise ValueError(f"{each.quantity}: day={each.day} holds a day twice; give each its own Observed.")
    if wrong := each.noise.refuse():
        raise ValueError(f"{each.quantity}: {type(each.noise).__name__} {wrong}.")
    shape = (subjects, len(each.day))
    value = np.full(shape, np.nan) if each.value is None else np.asarray(each.value)
    if value.shape != shape:
        raise ValueError(f"{each.quantity}: values of shape {value.shape}; expected {shape}, (subject, day).")
    noise = _broadcast_noise(each, shape)
    if (bad := noise.impossible(value) & ~np.isnan(value)).any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{each.quantity}: {value[row, column]:g} of subject {row} on day {each.day[column]:g} is impossible under "
            f"{type(each.noise).__name__} noise; correct it, or give NaN if it is missing."
        )
    return Observed(each.quantity, each.day, noise, value)


def _broadcast_noise(each: Observed, shape: tuple[int, int]) -> NoiseModel:
    """The noise with constants for every (subject, day)."""
    if isinstance(each.noise, Ordinal):
        return each.noise
    allowed = ((), shape[1:], shape)
    for name, leaf in vars(each.noise).items():
        if leaf.shape not in allowed:
            raise ValueError(f"{each.quantity}: noise {name} of shape {leaf.shape}; expected one of {allowed}.")
    return jax.tree.map(lambda leaf: jnp.asarray(np.broadcast_to(leaf, shape)), each.noise)


def _is_none(leaf) -> bool:
    return leaf is None


def _is_positive(value) -> bool:
    return bool((np.isfinite(value) & (np.asarray(value) > 0)).all())


def _smallest_value(value) -> float:
    return float(np.min(np.asarray(value)))
