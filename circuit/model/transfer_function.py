"""The transfer function: mean activity of an LHb population under given conditions, read from a small smooth network.

The slow clock cannot afford a second of membrane currents for every hour of every subject. A network with two hidden
layers of tanh units is distilled from the fast clock's own neuron by `habenula.circuit.calibration.transfer_function` (the
semi-analytic mean-field method of Zerlaut & Destexhe 2018, done by regression). There is so one neuron model, written once.
The file holds a fingerprint of the neuron's constants; loading it for other constants is an error.
"""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ...kernels import matmul
from . import lateral_habenula as lhb

TRANSFER_FILE = Path(__file__).with_name("transfer_function.npz")

# Range of conditions in which the network is distilled, in the order of the fields of `NeuronConditions`.
# The synaptic strength enters by its logarithm.
CONDITION_RANGES = {
    "excitation": (0.5, 5.0),
    "nmda": (0.0, 1.0),
    "t_channel": (0.0, 1.0),
    "kir_shift": (-12.0, 3.0),
    "current": (-0.3, 0.3),
    "inhibition": (0.0, 0.016),
}
INPUT_WIDTH = 8  # inputs of the network, with zeros: kernels want powers of two


class TransferFunction(eqx.Module):
    """The network. Inputs are scaled to about -1..1, outputs stand for (log S, log rate, burst share, log coincidence).

    Attributes:
        weights: three matrices, (hidden, 8), (hidden, hidden), (4, hidden); the last two columns of the first are 0.
        biases: three columns, (hidden, 1), (hidden, 1), (4, 1); the scale of inputs and outputs is folded in.
    """

    weights: tuple[Float[Array, "h 8"], Float[Array, "h h"], Float[Array, "4 h"]]
    biases: tuple[Float[Array, "h 1"], Float[Array, "h 1"], Float[Array, "4 1"]]


class PopulationResponse(eqx.Module):
    """Mean activity under given conditions.

    Attributes:
        output: Hz. S, the drive of the RMTg.
        rate: Hz. Mean over neurons.
        bursting: share of neurons.
        coincidence: pure number, see `lateral_habenula.coincidence`.
    """

    output: Float[Array, "*subject"]
    rate: Float[Array, "*subject"]
    bursting: Float[Array, "*subject"]
    coincidence: Float[Array, "*subject"]


def condition_features(given: lhb.NeuronConditions) -> Float[Array, "6 *subject"]:
    """The network's inputs: conditions with the logarithm of synaptic strength."""
    return jnp.stack(_feature_list(given))


def apply_network(weights: Sequence[Array], biases: Sequence[Array], x: Float[Array, "input *subject"]) -> Array:
    """Layers of tanh units, and a linear one."""
    column = lambda bias: bias.reshape(-1, *(1,) * (x.ndim - 1))
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = jnp.tanh(matmul(weight, x) + column(bias))
    return matmul(weights[-1], x) + column(biases[-1])


def evaluate_transfer(transfer: TransferFunction, given: lhb.NeuronConditions) -> PopulationResponse:
    """Evaluate the network. Floored where the distillation is; `bursting` is in error by about 0.01, and cut off at 0.

    Conditions may have axes before the lanes: one product of matrices does them all.
    """
    x = _feature_list(given)
    zero = jnp.zeros_like(x[0])
    y = apply_network(transfer.weights, transfer.biases, jnp.stack([*x, *[zero] * (INPUT_WIDTH - len(x))]))
    return PopulationResponse(jnp.exp(y[0]), jnp.exp(y[1]), jnp.maximum(y[2], 0), jnp.exp(y[3]))


def _feature_list(given: lhb.NeuronConditions) -> list[Float[Array, "*subject"]]:
    """One by one, in the order of `CONDITION_RANGES`."""
    return [jnp.log(given.excitation), *(getattr(given, name) for name in CONDITION_RANGES if name != "excitation")]


def distance_outside_range(given: lhb.NeuronConditions) -> dict[str, Float[Array, " subject"]]:
    """By name, the conditions of lanes that lie beyond the distilled range, as a distance in units of its width."""
    distance = {}
    for name, (low, high) in CONDITION_RANGES.items():
        value = getattr(given, name)
        distance[name] = jnp.maximum(jnp.maximum(low - value, value - high), 0) / (high - low)
    return distance


def neuron_fingerprint(p: lhb.Neuron) -> str:
    """Hash of the neuron's constants, to six digits.

    Raises:
        TypeError: the constants are traced, so that there is nothing to compare.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(p)):
        raise TypeError(
            "the constants of the LHb neuron are traced, but the transfer function holds for fixed ones: close over the cohort "
            "and pass in only what you transform, or take the gradient by other leaves than parameters.neuron."
        )
    text = ",".join(f"{name}={float(value):.6g}" for name, value in sorted(vars(p).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_transfer_function(p: lhb.Neuron, path: Path = TRANSFER_FILE) -> TransferFunction:
    """The distilled network for the neuron `p`.

    Raises:
        ValueError: the file was distilled from a neuron with other constants.
    """
    arrays, distilled = _read_arrays(path)
    if distilled != neuron_fingerprint(p):
        raise ValueError(
            f"{path.name} was distilled from neuron {distilled}, but the constants given are neuron {neuron_fingerprint(p)}. "
            "Run python -m habenula.circuit.calibration.transfer_function after changing constants of the LHb neuron."
        )
    weights, biases = (
        [jnp.asarray(arrays[f"{kind}{i}"], jnp.result_type(float)) for i in range(3)] for kind in ("weight", "bias")
    )
    columns = jnp.pad(weights[0], ((0, 0), (0, INPUT_WIDTH - len(CONDITION_RANGES))))
    return TransferFunction((columns, weights[1], weights[2]), (biases[0], biases[1], biases[2]))


@functools.cache
def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], str]:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, str(arrays.pop("fingerprint"))
