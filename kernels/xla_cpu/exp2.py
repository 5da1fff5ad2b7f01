"""Powers of two, and with them the exponential, in half the instructions: the time loop on CPU lives on them.

    2^y = 2^n 2^f,   n the integer nearest to y,   f the rest, at most 1/2

2^f is a polynomial of degree 5, the best of those that are 1 at 0 in relative error (9e-8; `tests/test_exponential.py` finds
it again); 2^n is added to the exponent of the floating number. In double precision it is the library's function.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

EXP2_COEFFICIENTS = (1.0, 0.6931469776, 0.2402224209, 0.0555073374, 0.0096715126, 0.0013264727)
MAX_EXPONENT = 126.0  # beyond it, 2^-y is no normal number of single precision
_ROUNDING_SHIFT = np.float32(
    1.5 * 2**23
)  # with a number within +-2^22 taken from it, it has the nearest integer in its last bits


@jax.custom_jvp
def exp2(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """2^y for |y| <= 126, in single precision to a share of 2.5e-7. Beyond, the result has no meaning: it is not looked at."""
    if y.dtype != jnp.float32:
        return jnp.exp2(y)
    less = _ROUNDING_SHIFT - y
    f = y - (_ROUNDING_SHIFT - less)  # written so, XLA does not see that it could be 0
    square = f * f
    a, b, c, d, e, g = map(np.float32, EXP2_COEFFICIENTS)
    power = (a + b * f) + square * ((c + d * f) + square * (e + g * f))  # Estrin's rule: short chains
    as_integer = lambda x: lax.bitcast_convert_type(x, jnp.int32)
    return lax.bitcast_convert_type(as_integer(power) - (as_integer(less) << 23), jnp.float32)


@exp2.defjvp
def _(primals, tangents):
    (y,), (dy,) = primals, tangents
    power = exp2(y)
    return power, power * (math.log(2) * dy)


def exp_ratio(distance: Float[Array, "*shape"], slope: Float[Array, "..."] | float | int) -> Float[Array, "..."]:
    """exp(distance/slope) for |distance/slope| <= 87; the slope's own division is not made for every number."""
    return exp2(distance * (1 / (math.log(2) * slope)))
