"""The noise is Philox, is normal, is independent along every axis, and does not know its batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from habenula.kernels import channel_keys, normal_pairs, normals_at_step, philox2x32
from habenula.kernels.noise import COSINE_COEFFICIENTS, LOG_COEFFICIENTS, SINE_COEFFICIENTS

SUBJECTS = jnp.arange(256, dtype=jnp.uint32)
words = st.integers(0, 2**32 - 1)
step_form, block_form = jax.jit(normals_at_step, static_argnums=3), jax.jit(normal_pairs, static_argnums=3)


def philox(first, second, key):
    """Philox2x32-10 once more, in 64-bit numpy."""
    first, second, key = (np.asarray(word, np.uint64) for word in (first, second, key))
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        product = first * np.uint64(0xD256D193)
        first, second = (product >> np.uint64(32)) ^ key ^ second, product & mask
        key = key + np.uint64(0x9E3779B9) & mask
    return first, second


@pytest.fixture(scope="module")
def sample():
    """2^20 normals: steps, channels, subjects."""
    pairs = block_form(channel_keys(20240229, 4), SUBJECTS, jnp.arange(512))
    return np.stack([pairs.real, pairs.imag], 1).reshape(1024, 4, 256).astype(np.float64)


@pytest.mark.parametrize(  # kat_vectors of Random123, "philox2x32 10"
    ("counter", "key", "answer"),
    [
        ((0x00000000, 0x00000000), 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_known_answers(counter, key, answer):
    assert tuple(map(int, philox2x32(jnp.uint32(counter[0]), jnp.uint32(counter[1]), jnp.uint32(key)))) == answer
    assert tuple(map(int, philox(counter[0], counter[1], key))) == answer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_box_muller_of_philox(float64, dtype):
    keys, steps = channel_keys(7, 3), np.arange(100)
    pairs = block_form(keys, SUBJECTS, jnp.asarray(steps), dtype)
    assert pairs.real.dtype == dtype
    radius, angle = philox(SUBJECTS, steps[:, None, None], keys[:, None])
    length = np.sqrt(-2 * np.log((radius | np.uint64(1)).astype(np.float64) * 2.0**-32))
    # The point of the circle at the angle word, up to a reflection: its two upper bits are the quadrant.
    fraction = (angle << np.uint64(2)).astype(np.uint32).view(np.int32) * (2.0**-32 * np.pi / 2)
    swap, flip = angle >> np.uint64(31) == 1, angle >> np.uint64(30) & np.uint64(1) == 1
    length = np.where(flip, -length, length)
    expected = length * np.where(swap, np.sin(fraction) + 1j * np.cos(fraction), np.exp(1j * fraction))
    # A large radius carries a rounding of eps r, a small one that of 1 - u = r^2 / 2, which is eps / r.
    error = np.abs(np.asarray(pairs) - expected) * np.minimum(np.abs(expected), 1 / np.abs(expected))
    assert error.max() < 8 * np.finfo(dtype).eps


@pytest.mark.parametrize(("word", "length"), [(0, np.sqrt(2 * np.log(2.0**32))), (2**32 - 1, 0.0)])
def test_extreme_words(word, length):
    """Where the cipher, run backwards, gives the smallest and the largest radius word."""
    keys = channel_keys(0, 1)
    first, second, weyl = word, 0x12345678, 0x9E3779B9
    for i in reversed(range(10)):
        key = (int(keys[0]) + i * weyl) % 2**32
        before = second * pow(0xD256D193, -1, 2**32) % 2**32
        first, second = before, first ^ key ^ (0xD256D193 * before >> 32)
    pair = block_form(keys, jnp.array([first], jnp.uint32), jnp.array(second, jnp.uint32))
    np.testing.assert_allclose(np.abs(pair), length, rtol=1e-6)


@pytest.mark.parametrize(("order", "mean", "variance"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)])
def test_moments(sample, order, mean, variance):
    assert abs((sample**order).mean() - mean) < 6 * np.sqrt(variance / sample.size)


def test_distribution(sample):
    assert scipy.stats.kstest(sample.ravel(), "norm").pvalue > 1e-6


@pytest.mark.parametrize("lag", [1, 2, 3, 64])
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["step", "channel", "subject"])
def test_neighbours_are_uncorrelated(sample, axis, lag):
    lag = min(lag, sample.shape[axis] - 1)
    a, b = np.split(sample, [lag], axis)[1], np.split(sample, [-lag], axis)[0]
    assert abs((a * b).mean()) < 6 / np.sqrt(a.size)
    assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 6 * 2 / np.sqrt(a.size)  # nor do large ones meet


def test_seeds_are_uncorrelated(sample):
    pairs = block_form(channel_keys(20240230, 4), SUBJECTS, jnp.arange(512))
    other = np.stack([pairs.real, pairs.imag], 1).reshape(sample.shape)
    assert abs((sample * other).mean()) < 6 / np.sqrt(sample.size)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_subject_does_not_know_its_batch(data):
    size = data.draw(st.sampled_from([1, 7, 16, 64]))
    subjects = data.draw(st.lists(words, min_size=size, max_size=size))
    seed, step, lane = data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**31 - 1)), size // 2
    keys = channel_keys(seed, 2)
    together = step_form(keys, jnp.asarray(np.array(subjects, np.uint32)), step)
    alone = step_form(keys, jnp.asarray(np.array(subjects[lane : lane + 1], np.uint32)), step)
    assert np.array_equal(together[:, lane], alone[:, 0])


@settings(max_examples=10, deadline=None)
@given(first=st.integers(0, 2**30 - 8), seed=words)
def test_blocks_equal_steps(first, seed):
    keys = channel_keys(jnp.uint32(seed), 3)
    block = block_form(keys, SUBJECTS, first + jnp.arange(4))
    for i in range(8):
        part = block[i // 2].imag if i % 2 else block[i // 2].real
        assert np.array_equal(part, step_form(keys, SUBJECTS, 2 * first + i))


def test_channel_keys():
    assert np.array_equal(channel_keys(5, 8), channel_keys(jnp.uint32(5), 8))
    assert np.array_equal(channel_keys(5 + (7 << 32), 8), channel_keys(jnp.array([5, 7], jnp.uint32), 8))
    assert np.array_equal(channel_keys(-1, 8), channel_keys(2**64 - 1, 8))
    assert np.array_equal(channel_keys(5, 8)[:3], channel_keys(5, 3))
    many = np.concatenate([channel_keys(seed, 64) for seed in (0, 1, 2, 1 << 32, 2 << 32)])
    assert len(set(many.tolist())) == many.size


@pytest.mark.parametrize(
    ("seed", "channels", "message"),
    [(2**64, 1, "more than 64 bits"), (0, -1, "channels=-1"), (np.zeros(3, np.uint32), 1, r"shape \(3,\)")],
)
def test_bad_seeds(seed, channels, message):
    with pytest.raises(ValueError, match=message):
        channel_keys(seed, channels)


def best_error(terms, rest):
    """Of the sum of `terms` nearest to `rest`: least squares, weighted until the largest error is smallest (Lawson 1961)."""
    weight, error = np.ones_like(rest), np.ones_like(rest)
    for _ in range(300):
        root = np.sqrt(weight)
        best = np.linalg.lstsq(terms * root[:, None], rest * root, rcond=None)[0]
        error = np.abs(terms @ best - rest)
        weight *= error / error.max() + 1e-3
    return error.max()


def test_no_logarithm_of_its_degree_is_much_better():
    t = np.cos(np.pi * (np.arange(800) + 0.5) / 800) / 3
    true = np.log1p(t) / t
    terms, rest = t[:, None] ** np.arange(1, 9) / true[:, None], 1 - 1 / true
    assert np.abs(terms @ LOG_COEFFICIENTS - rest).max() < 1.02 * best_error(terms, rest) < 3e-8


def test_no_cosine_or_sine_of_its_degree_is_much_better():
    x = np.cos(np.pi * (np.arange(800) + 0.5) / 1600) / 2
    powers = x[:, None] ** np.arange(0, 8, 2)
    cosine, sine = np.cos(np.pi / 2 * x) - 1, np.sin(np.pi / 2 * x) / x
    assert COSINE_COEFFICIENTS[0] == 1
    assert (
        np.abs(powers[:, 1:] @ COSINE_COEFFICIENTS[1:] - cosine).max() < 1.02 * best_error(powers[:, 1:], cosine) < 4e-8
    )
    assert np.abs(powers @ SINE_COEFFICIENTS - sine).max() < 1.05 * best_error(powers, sine) < 6e-9
