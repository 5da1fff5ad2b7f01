"""Counter-based noise: standard normals as a pure function of (seed, subject, step, channel).

The generator is Philox2x32-10, a counter-based block cipher without state. A path is the same in any batch,
tile, device or resumed run. One call gives 64 bits, of which Box-Muller makes two independent normals, for
the steps 2i and 2i + 1 of one channel of one subject:

    (radius word, angle word) = philox(counter = (subject, i), key = hash(seed, channel))
    z[2i] + 1j z[2i + 1] = sqrt(-2 log u) exp(2 pi 1j a)

Reference: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3. SC'11, doi 10.1145/2063384.2063405.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Complex, DTypeLike, Float, Integer, UInt32

from .xla_cpu.hoist import outlined

_PHILOX_MULTIPLIER = np.uint32(0xD256D193)
_WEYL_INCREMENT = np.uint32(0x9E3779B9)  # the golden ratio, in 32 bits
_PHILOX_ROUNDS = 10
# log(1 + t) = t + t^2 (sum of these times powers of t): least relative error of log(1 + t)/t for |t| < 1/3 (3e-8)
LOG_COEFFICIENTS = (-0.4999993608, 0.3333319814, -0.2500781889, 0.2001116868)
LOG_COEFFICIENTS += (-0.1641596092, 0.1399580656, -0.1538853901, 0.1402636125)
# Cosine and sine/x of x quarter turns in powers of x^2, for |x| < 1/2: least relative error (3e-8 and 5e-9)
COSINE_COEFFICIENTS = (1.0, -1.2336979540, 0.2536063619, -0.0204262503)
SINE_COEFFICIENTS = (1.5707963220, -0.6459634786, 0.0796802281, -0.0046021770)


def philox2x32(
    first: UInt32[Array, "*#shape"], second: UInt32[Array, "*#shape"], key: UInt32[Array, "*#shape"]
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """The two words of Philox2x32-10 at counter `(first, second)` under `key`. Arguments broadcast.

    Words are kept in the lower halves of 64-bit integers, so that the 64-bit product needs no splitting. The upper halves
    are ignored.
    """
    first, second, key = jnp.broadcast_arrays(first, second, key)
    with jax.enable_x64(True):
        wide = lambda x: lax.convert_element_type(x, np.uint64)
        first, second, key = wide(first), wide(second), wide(key)
        for _ in range(_PHILOX_ROUNDS):
            product = (first & np.uint64(0xFFFFFFFF)) * np.uint64(_PHILOX_MULTIPLIER)
            first, second = (product >> np.uint64(32)) ^ key ^ second, product
            key = key + np.uint64(_WEYL_INCREMENT)
        return lax.convert_element_type(first, np.uint32), lax.convert_element_type(second, np.uint32)


def _philox_words(first: UInt32[Array, "*#shape"], second: UInt32[Array, "*#shape"], key: UInt32[Array, "*#shape"]):
    """`philox2x32` as complex numbers whose parts have the bits of the words."""
    as_float = lambda word: lax.bitcast_convert_type(word, jnp.float32)
    return lax.complex(*map(as_float, philox2x32(first, second, key)))


def channel_keys(seed: ArrayLike, channels: int) -> UInt32[Array, " channels"]:
    """The 32-bit key of each noise channel: a hash of (seed, channel), computed once outside the loop.

    Args:
        seed: a Python integer of up to 64 bits, or a uint32 array of one word or of two (low, high).
        channels: number of independent noise sources of every subject.

    Raises:
        ValueError: a seed of more than 64 bits, or a negative number of channels.
    """
    if channels < 0:
        raise ValueError(f"{channels=} must not be negative.")
    if isinstance(seed, int):
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"{seed=} has more than 64 bits; fold it into 64, as with seed % 2**64.")
        seed = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
    words = jnp.atleast_1d(jnp.asarray(seed)).astype(jnp.uint32)
    if words.shape not in ((1,), (2,)):
        raise ValueError(f"A seed is one or two 32-bit words, not an array of shape {words.shape}.")
    high = words[1] if words.size == 2 else jnp.uint32(0)
    return philox2x32(words[0], jnp.arange(channels, dtype=jnp.uint32), high)[0]


def normal_pairs(
    keys: UInt32[Array, " channels"],
    subjects: UInt32[Array, " lanes"],
    pairs: Integer[Array, "*pairs"],
    dtype: DTypeLike = jnp.float32,
) -> Complex[Array, "*pairs channels lanes"]:
    """Normals of the steps `2 * pairs` (real part) and `2 * pairs + 1` (imaginary part).

    With complex numbers XLA computes both halves in one pass; two real outputs would run the cipher twice.

    Args:
        keys: from `channel_keys`.
        subjects: the number that identifies each subject.
        pairs: half the step, rounded down.
        dtype: of the arithmetic. The bits are the same: float32 and float64 give the same path to rounding.
    """
    counter = jnp.asarray(pairs).astype(jnp.uint32)[..., None, None]
    lane = subjects.reshape((1,) * counter.ndim + subjects.shape)[..., 0, :]
    key = keys.reshape((1,) * (counter.ndim - 2) + keys.shape + (1,))
    words = outlined(_philox_words)(lane, counter, key)
    as_word = lambda part: lax.bitcast_convert_type(part, jnp.uint32)
    return lax.complex(*_box_muller(as_word(words.real), as_word(words.imag), dtype))


def normal_pair(
    keys: UInt32[Array, " channels"],
    subjects: UInt32[Array, " lanes"],
    pair: Integer[Array, ""],
    dtype: DTypeLike = jnp.float32,
) -> tuple[Float[Array, "channels lanes"], Float[Array, "channels lanes"]]:
    """Both parts of one of the `normal_pairs`, for Pallas kernels, which have no complex numbers."""
    words = philox2x32(subjects[None, :], pair.astype(jnp.uint32), keys[:, None])
    return _box_muller(*words, dtype)


def normals_at_step(
    keys: UInt32[Array, " channels"],
    subjects: UInt32[Array, " lanes"],
    step: Integer[ArrayLike, ""],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "channels lanes"]:
    """Standard normals of one step: a function of (seed, subject, step, channel) and of nothing else.

    Equal, bit for bit, to the parts of `normal_pairs`, which computes them at half the cost.
    """
    step = jnp.asarray(step).astype(jnp.uint32)
    pair = normal_pairs(keys, subjects, step >> 1, dtype)
    return jnp.where(step & 1 == 1, pair.imag, pair.real)


def _box_muller(
    radius: UInt32[Array, "*shape"], angle: UInt32[Array, "*shape"], dtype
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Two independent standard normals from two words: sqrt(-2 log u) times a point of the unit circle.

    All 32 bits of the radius word are used, so that |z| reaches sqrt(2 log 2^32) = 6.66. The angle word is read as two
    bits of quadrant and a signed fraction of a quarter turn, -1/2 to 1/2, where short polynomials are exact to rounding.
    """
    dtype = jnp.dtype(dtype)
    length = jnp.sqrt(-2 * _log_uniform(radius | 1, dtype))
    fraction = lax.bitcast_convert_type(angle << 2, jnp.int32).astype(dtype) * dtype.type(2.0**-32)
    cosine, sine = _cosine_and_sine(fraction)
    swap, flip = angle >> 31 == 1, angle >> 30 & 1 == 1
    length = jnp.where(flip, -length, length)
    return length * jnp.where(swap, sine, cosine), length * jnp.where(swap, cosine, sine)


def _log_uniform(word: UInt32[Array, "*shape"], dtype) -> Float[Array, "*shape"]:
    """log(word / 2^32), word > 0: from its exponent and a polynomial; in double precision the library's."""
    x = word.astype(dtype)
    if dtype != jnp.float32:
        return jnp.log(x * dtype.type(2.0**-32))
    bits = lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - np.int32(0x3F2AAAAB)) >> 23  # the mantissa then lies between 2/3 and 4/3
    t = lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - 1
    square = t * t
    a, b, c, d, e, f, g, h = map(np.float32, LOG_COEFFICIENTS)
    low = (a + b * t) + square * (c + d * t)  # Estrin's rule: short chains
    high = (e + f * t) + square * (g + h * t)
    rest = t + square * (low + (square * square) * high)
    return (exponent - 32).astype(dtype) * dtype.type(math.log(2)) + rest


def _cosine_and_sine(fraction: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Cosine and sine of `fraction` quarter turns, |fraction| <= 1/2; in double precision by Taylor series."""
    square = fraction * fraction
    if fraction.dtype == jnp.float32:
        even, odd = (tuple(map(np.float32, terms)) for terms in (COSINE_COEFFICIENTS, SINE_COEFFICIENTS))
    else:
        even, odd = ([_taylor_coefficient(n) for n in range(first, 18, 2)] for first in (0, 1))
    horner = lambda terms: functools.reduce(lambda y, term: y * square + term, reversed(terms))
    return horner(even), fraction * horner(odd)


def _taylor_coefficient(n: int) -> float:
    """Taylor coefficient of order `n` of the cosine or sine of a quarter turn."""
    return (-1) ** (n // 2) * (math.pi / 2) ** n / math.factorial(n)
