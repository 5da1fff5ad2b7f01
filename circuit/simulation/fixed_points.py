"""Set points: the states in which a subject would stay, found and classified.

A typical susceptible subject has three: a stable healthy one, a stable depressed one, and a saddle between them that
separates what decays from what stays. None is written in; they follow from the loop of dopamine deficit and potentiation.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..model.parameters import Parameters
from ..model.slow_clock import (
    SLOW_STEP,
    SlowActivity,
    SlowInputs,
    SlowState,
    circuit_activity,
    compute_relaxations,
    healthy_state,
)
from ..model.transfer_function import TransferFunction
from .course import load_transfer_function

STATE_NAMES = (
    "release",
    "gain",
    "inhibition",
    "kir_shift",
    "control",
)  # aversion at its mean, no drug; mood only follows
NEWTON_STARTS = 61
NEWTON_ITERATIONS = 60


class FixedPoint(eqx.Module):
    """A state that stays.

    Attributes:
        kind: "stable", or "saddle" when it is left in one direction, "unstable" in several.
        state: the slow state, one lane.
        output: Hz. VTA output there.
        rates: 1/h. Eigenvalues of the linearised dynamics, largest real part first.
    """

    kind: str = eqx.field(static=True)
    state: SlowState
    output: float = eqx.field(static=True)
    rates: tuple[complex, ...] = eqx.field(static=True)


def fixed_points(p: Parameters, stress: float = 0.0) -> list[FixedPoint]:
    """All set points of one subject under constant `stress`, from the least to the most depressed.

    Newton's method from points along the way from healthy to fully potentiated synapses; duplicates are dropped, and each
    point is classified by the eigenvalues of the Jacobian.

    Args:
        p: parameters of one subject: scalars, or those of a cohort of one, `cohort[i].parameters`.
        stress: severity, held for ever.

    Raises:
        ValueError: parameters of more than one subject.
    """
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(p) if leaf.ndim}
    if sizes - {1}:
        raise ValueError(
            f"parameters of {max(sizes)} subjects; give those of one subject, as in fixed_points(cohort[i].parameters)."
        )
    transfer = load_transfer_function(p)
    found, residual = _solve_by_newton(p, transfer, jnp.asarray(stress))
    points = []
    for x, left in zip(np.asarray(found).T, np.asarray(residual), strict=True):
        if left < 1e-4 and all(np.abs(x - other).max() > 0.02 for other in points):
            points.append(x)
    result = [_classify_fixed_point(p, transfer, jnp.asarray(x), jnp.asarray(stress)) for x in points]
    return sorted(result, key=lambda point: -point.output)


def activity_at(p: Parameters, state: SlowState, stress: float = 0.0) -> SlowActivity:
    """The circuit's activity at a slow `state`, without drugs."""
    return circuit_activity(
        state, SlowInputs(stress=jnp.asarray(stress)), jnp.asarray(0.0), p, load_transfer_function(p)
    )


def with_reference_levels(p: Parameters) -> Parameters:
    """`p` with the VTA output and dopamine of its own healthy set point as reference levels, which enter the slow clock."""
    for _ in range(3):  # the set point is read from the slow clock that they enter
        point = fixed_points(p)[0]
        levels = jnp.asarray(point.output), activity_at(p, point.state).dopamine[0]
        p = eqx.tree_at(lambda p: (p.motivation.reference_output, p.motivation.reference_dopamine), p, levels)
    return p


def _state_from_vector(x: Float[Array, "5 lane"], p: Parameters) -> SlowState:
    begin = healthy_state(x.shape[1], p)
    return eqx.tree_at(lambda s: [getattr(s, name) for name in STATE_NAMES], begin, list(x))


def _slow_drift(x: Float[Array, "5 lane"], p: Parameters, transfer: TransferFunction, stress: Float[Array, ""]):
    """dx/dt (1/h) of the varying states."""
    state, inputs = _state_from_vector(x, p), SlowInputs(stress=stress)
    seen = circuit_activity(state, inputs, jnp.asarray(0.0), p, transfer)
    tendency = compute_relaxations(state, inputs, seen, seen, p)
    return jnp.stack([t.rate * (t.steady - getattr(state, name)) for name in STATE_NAMES if (t := tendency[name])])


@eqx.filter_jit
def _solve_by_newton(p, transfer, stress):
    """Points (5, starts) and how far each still moves, per characteristic time of about 20 days."""
    along = jnp.linspace(0.0, 1.0, NEWTON_STARTS)
    scale = jnp.stack(
        [
            jnp.ones(()),
            p.plasticity.gain_maximum.reshape(()) - 1,
            jnp.ones(()),
            p.plasticity.kir_maximum.reshape(()),
            jnp.ones(()),
        ]
    )
    begin = _vector_from_state(healthy_state(1, p))[:, 0]
    direction = jnp.asarray([0.0, 1.0, 0.0, -1.0, -0.7])
    x = begin[:, None] + (scale * direction)[:, None] * along[None]
    one = lambda x: _slow_drift(x[:, None], p, transfer, stress)[:, 0]

    def update(x, _):
        jacobian = jax.vmap(jax.jacfwd(one), in_axes=1, out_axes=0)(x)
        move = jnp.linalg.solve(jacobian, -jax.vmap(one, in_axes=1)(x)[..., None])[..., 0].T
        limit = 0.1 * scale[:, None]
        return x + jnp.clip(move, -limit, limit), None

    x, _ = jax.lax.scan(update, x, length=NEWTON_ITERATIONS)
    return x, 480.0 * SLOW_STEP * jnp.max(jnp.abs(jax.vmap(one, in_axes=1, out_axes=1)(x)) / scale[:, None], axis=0)


def _vector_from_state(state: SlowState) -> Float[Array, "5 lane"]:
    return jnp.stack([getattr(state, name) for name in STATE_NAMES])


def _classify_fixed_point(p: Parameters, transfer: TransferFunction, x: Float[Array, " 5"], stress) -> FixedPoint:
    one = lambda x: _slow_drift(x[:, None], p, transfer, stress)[:, 0]
    eigenvalues = np.linalg.eigvals(np.asarray(jax.jacfwd(one)(x), np.float64))
    rates = tuple(sorted((complex(value) for value in eigenvalues), key=lambda value: -value.real))
    growing = sum(value.real > 0 for value in rates)
    state = _state_from_vector(x[:, None], p)
    output = float(activity_at(p, state, float(stress)).output[0])
    return FixedPoint(("stable", "saddle", "unstable")[min(growing, 2)], state, output, rates)
