"""The exponential and the logistic function in half the instructions: the time loop on CPU lives on them.

    exp(x) = 2^n 2^f,   n the integer nearest to x / log 2,   f the rest, at most 1/2

2^f is a polynomial of degree 5, the best of those that are 1 at 0 in relative error (9e-8; `tests/test_exponential.py` finds
it again); 2^n is added to the exponent of the floating number. In double precision it is the library's function.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

POLYNOMIAL = (1.0, 0.6931469776, 0.2402224209, 0.0555073374, 0.0096715126, 0.0013264727)
LARGEST = 87.0  # beyond it, exp(-x) is no normal number of single precision


@jax.custom_jvp
def exponential(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """exp(x), in single precision to a share of 2.5e-7 + 7e-8 |x|; beyond +-87 it stays at its value there."""
    if x.dtype != jnp.float32:
        return jnp.exp(x)
    number = np.float32
    y = jnp.clip(x, -LARGEST, LARGEST) * number(1 / math.log(2))
    n = jnp.round(y)
    f = y - n
    square = f * f
    a, b, c, d, e, g = map(number, POLYNOMIAL)
    power = (a + b * f) + square * ((c + d * f) + square * (e + g * f))  # Estrin's rule: short chains
    bits = lax.bitcast_convert_type(power, jnp.int32) + (n.astype(jnp.int32) << 23)
    return lax.bitcast_convert_type(bits, jnp.float32)


@exponential.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = exponential(x)
    return y, y * dx


def logistic(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1/(1 + exp(-x)), as exact as `exponential`."""
    return 1 / (1 + exponential(-x))
