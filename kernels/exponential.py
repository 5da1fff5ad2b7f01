"""The exponential and the logistic function in half the instructions: the time loop on CPU lives on them.

    exp(x) = 2^n 2^f,   n the integer nearest to x / log 2,   f the rest, at most 1/2

2^f is a polynomial of degree 5, the best of those that are 1 at 0 in relative error (9e-8; `tests/test_exponential.py` finds
it again); 2^n is added to the exponent of the floating number. In double precision it is the library's function.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

POLYNOMIAL = (1.0, 0.6931469776, 0.2402224209, 0.0555073374, 0.0096715126, 0.0013264727)
LARGEST = 87.0  # beyond it, exp(-x) is no normal number of single precision
SHARED = 40.0  # up to here, products of two exponentials and a few hundreds are numbers of single precision
_INTEGERS = np.float32(1.5 * 2**23)  # added to a number within +-2^22, it leaves the nearest integer in the last bits


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def power_of_two(y: Float[Array, "*shape"], largest: float = LARGEST) -> Float[Array, "*shape"]:
    """2^y, in single precision to a share of 2.5e-7; beyond 2^y = exp(+-`largest`) it stays at its value there."""
    if y.dtype != jnp.float32:
        return jnp.exp2(y)
    return ordinary_power(jnp.clip(y, -largest / math.log(2), largest / math.log(2)))


@jax.jit
def ordinary_power(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`power_of_two` where it is an ordinary number of single precision: by name, so that kernels may have it otherwise."""
    number = np.float32
    # The sum is looked at as an integer at once: taken from it as a number again, the compiler would see nothing done.
    bits = lax.bitcast_convert_type(y + _INTEGERS, jnp.int32)
    f = y - (bits - _INTEGERS.view(np.int32)).astype(jnp.float32)
    square = f * f
    a, b, c, d, e, g = map(number, POLYNOMIAL)
    power = (a + b * f) + square * ((c + d * f) + square * (e + g * f))  # Estrin's rule: short chains
    scaled = lax.bitcast_convert_type(power, jnp.int32) + (bits << 23)
    return lax.bitcast_convert_type(scaled, jnp.float32)


@power_of_two.defjvp
def _(largest, primals, tangents):
    (y,), (dy,) = primals, tangents
    power = power_of_two(y, largest)
    return power, power * (math.log(2) * dy)


def exponential(x: Float[Array, "*shape"], largest: float = LARGEST) -> Float[Array, "*shape"]:
    """exp(x), in single precision to a share of 2.5e-7 + 7e-8 |x|; beyond +-`largest` it stays at its value there."""
    return power_of_two(x * (1 / math.log(2)), largest)


def growth(distance: Float[Array, "*shape"], slope: Float[Array, "..."], largest: float = LARGEST):
    """exp(distance/slope), with one product: its factor is made once for numbers of any shape."""
    return power_of_two(distance * (1 / math.log(2) / slope), largest)


def logistic(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1/(1 + exp(-x)), as exact as `exponential`."""
    return 1 / (1 + exponential(-x))
