"""Streaming statistics over lanes: mean, variance and quantiles of chunks, merged in the memory of one chunk.

Each is made from one chunk by `of` and joined to another by `merge`. The order of chunks changes only rounding. Lanes come
first, as in records: (lane, *shape).
"""

import dataclasses

import numpy as np

_BIN_BITS = 16  # bits of a single-precision number that name its bin: sign, exponent, and 7 of the fraction


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and variance over lanes, in double precision.

    Attributes:
        count: lanes.
        mean: over them, in the unit of the quantity; 0 over none.
        spread: sum of squared distances from the mean.

    References: Chan, Golub & LeVeque, The American Statistician 37 (1983).
    """

    count: int
    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Summary":
        """Summary of one chunk, (lane, *shape).

        Example:
            >>> Summary.of(np.array([[1.0], [2.0]])).merge(Summary.of(np.array([[6.0]]))).mean.tolist()
            [3.0]
        """
        values = np.asarray(values)
        if not len(values):
            return cls(0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:]))
        mean = values.mean(axis=0, dtype=np.float64)
        return cls(len(values), mean, np.square(values - mean).sum(axis=0))

    def merge(self, other: "Summary") -> "Summary":
        """Of two chunks together."""
        count = self.count + other.count
        distance, share = other.mean - self.mean, other.count / max(count, 1)
        spread = self.spread + other.spread + np.square(distance) * self.count * share
        return Summary(count, self.mean + distance * share, spread)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation over lanes (divided by their number less one); NaN for fewer than two."""
        return np.sqrt(self.spread / (self.count - 1)) if self.count > 1 else np.full(self.spread.shape, np.nan)


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Quantiles over lanes, to 0.4 % of their value, from a histogram with logarithmic bins.

    A bin holds the single-precision numbers that share their first 16 bits: 128 bins between a number and its double, of
    both signs, from the smallest to the largest. Only those between the smallest and the largest value are kept.

    Attributes:
        lowest: number of the first bin that is kept.
        counts: lanes in each bin, (*shape, bin).
    """

    lowest: int
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Quantiles":
        """Quantiles of one chunk, (lane, *shape), of at least one lane.

        Raises:
            ValueError: no lanes, or values that are not finite.
        """
        values = np.asarray(values, np.float32)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(
                f"quantiles need finite values of at least one lane, not {values.shape} with some that are not."
            )
        bins = _bin_number(values).reshape(len(values), -1)
        lowest, width = int(bins.min()), int(bins.max()) - int(bins.min()) + 1
        places = bins - lowest + width * np.arange(bins.shape[1])
        counts = np.bincount(places.ravel(), minlength=width * bins.shape[1])
        return cls(lowest, counts.astype(np.int32).reshape(*values.shape[1:], width))

    def merge(self, other: "Quantiles") -> "Quantiles":
        """Of two chunks together."""
        lowest = min(self.lowest, other.lowest)
        end = max(each.lowest + each.counts.shape[-1] for each in (self, other))
        counts = np.zeros((*self.counts.shape[:-1], end - lowest), np.int32)
        for each in (self, other):
            begin = each.lowest - lowest
            counts[..., begin : begin + each.counts.shape[-1]] += each.counts
        return Quantiles(lowest, counts)

    def at(self, share: float) -> np.ndarray:
        """The `share` quantile: the value of the lane nearest in rank, as the centre of its bin.

        Raises:
            ValueError: a share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"{share=} must lie between 0 and 1.")
        below = np.cumsum(self.counts, axis=-1)
        rank = np.rint(share * (below[..., -1:] - 1))
        return _bin_centre(self.lowest + np.argmax(below > rank, axis=-1))


def _bin_number(values: np.ndarray) -> np.ndarray:
    """The first bits of each number, as an integer in the order of the numbers."""
    bits = np.ascontiguousarray(values).view(np.int32)
    ordered = np.where(bits < 0, ~bits, bits | np.int32(-(2**31))).view(np.uint32)
    return (ordered >> (32 - _BIN_BITS)).astype(np.int64)


def _bin_centre(number: np.ndarray) -> np.ndarray:
    """The centre of a bin; the inverse of `_bin_number`."""
    ordered = ((number.astype(np.uint32) << (32 - _BIN_BITS)) | np.uint32(1 << (31 - _BIN_BITS))).view(np.int32)
    return np.where(ordered < 0, ordered & np.int32(2**31 - 1), ~ordered).view(np.float32)
