"""Statistics over lanes in pieces are those of all lanes at once."""

import numpy as np
import pytest

from habenula.kernels import Quantiles, Summary


def sample(lanes=1001, seed=0):
    """Numbers of several sizes and both signs, (lane, 3, 2)."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(lanes, 3, 2)) * 10.0 ** np.linspace(-6, 6, 6).reshape(3, 2)).astype(np.float32)


def joined(kind, values, pieces):
    first, *others = (kind.of(piece) for piece in np.array_split(values, pieces))
    for other in others:
        first = first.merge(other)
    return first


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_mean_and_deviation(pieces):
    values = sample() + np.float32(3)
    found = joined(Summary, values, pieces)
    exact = values.astype(np.float64)
    assert found.count == len(values)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.sd, exact.std(axis=0, ddof=1), rtol=1e-10)


def test_a_small_spread_on_a_large_offset_survives():
    values = (1e4 + sample()[:, :1, 0] * 1e6).astype(np.float32)  # about 1 on 10,000
    found = joined(Summary, values, 5)
    np.testing.assert_allclose(found.sd, values.std(axis=0, ddof=1, dtype=np.float64), rtol=1e-10)


def test_pieces_without_lanes_change_nothing():
    values = sample()
    empty = Summary.of(values[:0])
    for found in (empty.merge(Summary.of(values)), Summary.of(values).merge(empty)):
        np.testing.assert_array_equal(found.mean, Summary.of(values).mean)
        np.testing.assert_array_equal(found.sd, Summary.of(values).sd)
    assert np.isnan(Summary.of(values[:1]).sd).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.97, 1.0])
def test_quantiles_are_near_those_of_a_sort(share):
    values = sample()
    exact = np.quantile(values, share, axis=0, method="nearest")
    np.testing.assert_allclose(joined(Quantiles, values, 3).at(share), exact, rtol=1 / 256)


def test_pieces_have_the_bins_of_the_whole():
    values = sample()
    whole, parts = Quantiles.of(values), joined(Quantiles, values, 4)
    assert parts.lowest == whole.lowest
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == values.size


def test_quantiles_of_few_and_of_zeros():
    assert abs(Quantiles.of(np.zeros((5, 2), np.float32)).at(0.5)).max() < 1e-38
    np.testing.assert_allclose(Quantiles.of(np.float32([[2.0], [-3.0]])).at(0.0), [-3.0], rtol=1 / 256)


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.array([[1.0], [np.nan]]), np.array([[np.inf]])])
def test_quantiles_of_nothing_are_refused(values):
    with pytest.raises(ValueError, match="finite"):
        Quantiles.of(values)


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match=r"share=1\.5"):
        Quantiles.of(np.ones((2, 1))).at(1.5)
