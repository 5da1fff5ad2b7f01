"""Distil the transfer function from the simulated neuron.

    python -m habenula.circuit.calibration.transfer_function [--points 2048] [--devices 2] [--samples FILE]

Simulates a population at each of a low-discrepancy set of operating points, denser where the slow clock lives, and fits
the network to them by Adam. One point in eight is held out; the script prints R2 and the error of the burst share on those.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..model import lateral_habenula as lhb
from ..model import lhb_population
from ..model.transfer_function import (
    CONDITION_RANGES,
    TRANSFER_FILE,
    apply_network,
    condition_features,
    neuron_fingerprint,
)

NEURON_COUNT, SIMULATED_SECONDS, HIDDEN_UNITS = 128, 8.0, 32
LANES_PER_CHUNK = 256  # lanes simulated at once, for a sign of life
# Added to S (Hz), rate (Hz) and coincidence under the logarithm: below, a population is silent for all that follows, and a
# few seconds of simulation count too few bursts to tell how silent.
LABEL_FLOOR = np.array([0.02, 0.01, 0.0, 1e-6])


def sample_operating_points(points: int, seed: int = 0) -> lhb.NeuronConditions:
    """Sobol points in `CONDITION_RANGES`; three of four with whole T-current, half with the inhibition found in vivo."""
    from scipy.stats import qmc

    u = qmc.Sobol(len(CONDITION_RANGES) + 2, rng=seed).random(points)
    low, high = np.array(list(CONDITION_RANGES.values())).T
    x = low + (high - low) * u[:, : len(CONDITION_RANGES)]
    x[:, 0] = np.exp(np.log(low[0]) + np.log(high[0] / low[0]) * u[:, 0])
    x[u[:, 6] < 0.75, 2] = 1.0  # no T-channel blocker
    x[u[:, 6] < 0.5, 4] = 0.0  # no current
    vivo = u[:, 7] < 0.6
    x[vivo, 5] = 0.004 + 0.008 * u[vivo, 5]
    return lhb.NeuronConditions(*(jnp.asarray(column, jnp.float32) for column in x.T))


def simulate_labels(
    p: lhb.Neuron, given: lhb.NeuronConditions, *, seconds: float = SIMULATED_SECONDS, seed: int = 0, devices: int = 1
) -> np.ndarray:
    """S (Hz), rate (Hz), burst share and coincidence of each lane, measured on the fast clock: array (4, lanes)."""
    found, began, lanes = [], time.time(), given.excitation.shape[0]
    for first in range(0, lanes, LANES_PER_CHUNK):
        chunk = jax.tree.map(lambda leaf, first=first: leaf[first : first + LANES_PER_CHUNK], given)
        subjects = jnp.arange(first, first + len(chunk.excitation), dtype=jnp.uint32)  # each lane its own noise
        plan = lhb_population.make_population_plan(NEURON_COUNT, devices)
        seen = lhb_population.simulate_population(
            p, chunk, neurons=NEURON_COUNT, seconds=seconds, seed=seed, subjects=subjects, plan=plan
        )
        found.append(np.stack([seen.output, seen.modes.rate, seen.modes.bursting, seen.coincidence]))
        print(
            f"simulated {first + LANES_PER_CHUNK:5d} of {lanes} operating points, {time.time() - began:.0f} s",
            flush=True,
        )
    return np.concatenate(found, axis=1)


def log_transform_labels(found: np.ndarray) -> np.ndarray:
    """Logarithms of all but the burst share, floored."""
    return np.stack([row if i == 2 else np.log(row + LABEL_FLOOR[i]) for i, row in enumerate(found)])


def train_network(
    x: Array, y: Array, *, epochs: int = 20000, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases of the network that predicts standardised labels from scaled inputs, by full-batch Adam."""
    keys = jax.random.split(jax.random.key(seed), 3)
    widths = (x.shape[0], HIDDEN_UNITS, HIDDEN_UNITS, y.shape[0])
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [jax.random.normal(key, shape) / shape[1] ** 0.5 for key, shape in zip(keys, shapes, strict=True)]
    network = (weights, [jnp.zeros((shape[0], 1)) for shape in shapes])
    optimiser = optax.adam(optax.cosine_decay_schedule(5e-3, epochs))

    def loss(network):
        weights, biases = network
        return jnp.mean((apply_network(weights, biases, x) - y) ** 2)

    def update(carry, _):
        network, state = carry
        value, gradient = jax.value_and_grad(loss)(network)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(network, change), state), value

    run = jax.jit(lambda carry: jax.lax.scan(update, carry, length=epochs)[0])
    (weights, biases), _ = run((network, optimiser.init(network)))
    return [np.asarray(w) for w in weights], [np.asarray(b) for b in biases]


def distil_network(
    given: lhb.NeuronConditions, y: np.ndarray, epochs: int = 20000
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The network's arrays, with all scaling folded in, and its scores on the held-out eighth."""
    x = np.asarray(condition_features(given), np.float64)
    held = np.random.default_rng(0).permutation(x.shape[1]) % 8 == 0  # every eighth Sobol point would be one corner
    low, high = (
        np.array([np.log(v[i]) if name == "excitation" else v[i] for name, v in CONDITION_RANGES.items()])
        for i in (0, 1)
    )
    middle, half = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    mean, spread = y.mean(axis=1, keepdims=True), y.std(axis=1, keepdims=True)
    standard = lambda value, mean, spread: jnp.asarray((value - mean) / spread, jnp.float32)
    scaled, target = standard(x, middle, half), standard(y, mean, spread)
    weights, biases = train_network(scaled[:, ~held], target[:, ~held], epochs=epochs)
    fitted = apply_network([jnp.asarray(w) for w in weights], [jnp.asarray(b) for b in biases], scaled[:, held])
    error = (np.asarray(fitted) - target[:, held]) * spread
    r2 = 1 - (error**2).mean(axis=1) / y[:, held].var(axis=1)
    scores = {
        "R2 of log output": float(r2[0]),
        "R2 of log rate": float(r2[1]),
        "rms error of burst share": float(np.sqrt((error[2] ** 2).mean())),
        "R2 of log coincidence": float(r2[3]),
    }
    weights[0], biases[0] = weights[0] / half.T, biases[0] - (weights[0] / half.T) @ middle
    weights[2], biases[2] = weights[2] * spread, biases[2] * spread + mean
    arrays = {f"weight{i}": np.asarray(weight, np.float32) for i, weight in enumerate(weights)}
    return arrays | {f"bias{i}": np.asarray(bias, np.float32) for i, bias in enumerate(biases)}, scores


def _load_or_simulate_labels(p: lhb.Neuron, given: lhb.NeuronConditions, chosen: argparse.Namespace) -> np.ndarray:
    """The labels from the file `chosen.samples` if it holds these points of this neuron; else simulated, and kept there."""
    path = chosen.samples
    key = f"{neuron_fingerprint(p)}-{given.excitation.shape[0]}-{chosen.seconds}"
    if path is not None and path.exists():
        with np.load(path) as file:
            if str(file["key"]) == key:
                return log_transform_labels(file["found"])
    found = simulate_labels(p, given, seconds=chosen.seconds, devices=chosen.devices)
    if path is not None:
        np.savez(path, key=key, found=found)
    return log_transform_labels(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, distil, print the scores and write the file that the package loads."""
    parser = argparse.ArgumentParser(description="Distil the transfer function from the neuron.")
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--samples", type=Path, metavar="PATH", help="simulated labels, kept for another run")
    parser.add_argument("--seconds", type=float, default=SIMULATED_SECONDS, help="simulated at each point")
    parser.add_argument("--epochs", type=int, default=20000)
    parser.add_argument("--out", type=Path, default=TRANSFER_FILE, metavar="PATH", help="file of the network")
    chosen = parser.parse_args(arguments)
    if chosen.devices > 1:
        jax.config.update("jax_num_cpu_devices", chosen.devices)
    p, given = lhb.neuron_constants(), sample_operating_points(chosen.points)
    labels = _load_or_simulate_labels(p, given, chosen)
    arrays, scores = distil_network(given, labels, chosen.epochs)
    for name, score in scores.items():
        print(f"{name:26s} {score:.4f}")
    complete = chosen.out.with_name(f".{chosen.out.stem}.{os.getpid()}.npz")
    content: dict[str, Any] = {"fingerprint": neuron_fingerprint(p), **arrays}
    np.savez(complete, **content)
    os.replace(complete, chosen.out)


if __name__ == "__main__":
    main()
