"""NumPy: whole arrays, one step after another, in tiles that stay in cache."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from workload import DT, STATISTICS, Found, Workload, constants

TILE = 256  # subjects: large enough to hide the interpreter, small enough for the second-level cache


def available() -> str | None:
    """Always: the package itself needs NumPy."""
    return None


def prepare(workload: Workload, cores: int = 1):
    """Tiles are shared out over `cores` threads: NumPy lets go of the interpreter inside its loops."""
    numbers = constants(workload)
    starts = range(0, workload.subjects, TILE)

    def run() -> Found:
        seeds = np.random.SeedSequence(workload.seed).spawn(len(starts))
        with ThreadPoolExecutor(cores) as pool:
            found = list(pool.map(lambda start, seed: _tile(numbers, workload.steps, start, seed), starts, seeds))
        return dict(zip(STATISTICS, np.concatenate(found, axis=1), strict=True))

    return run


def _tile(numbers, steps: int, start: int, seed) -> np.ndarray:
    """(3, subjects of the tile): the statistics."""
    p, dt = numbers.neuron, np.float32(DT)
    c = {name: value[start : start + TILE] for name, value in numbers.conditions.items()}
    leak, threshold = numbers.leak_reversal[:, None], numbers.spike_threshold[:, None]
    generator = np.random.Generator(np.random.SFC64(seed))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    rate = lambda v: 250 * sigmoid((v - threshold) / p["spike_slope"])

    v = leak + c["kir_shift"]
    h = sigmoid((p["t_availability_half"] - v) / p["t_availability_slope"])
    a, noise, r = np.zeros_like(v), np.zeros_like(v), rate(v)
    passive = p["leak_conductance"] + p["ampa_conductance"] * c["excitation"] + c["inhibition"]
    pull = p["leak_conductance"] * (leak + c["kir_shift"]) - 72 * c["inhibition"] + c["current"]
    calcium_most = p["t_conductance"] * c["t_channel"]
    nmda_most = p["nmda_conductance"] * c["excitation"] * c["nmda"]
    decay = np.exp(-dt / np.float32(5))
    kick = p["noise"] * np.sqrt(1 - decay * decay)
    mean, spread, level = (np.zeros(v.shape[1], np.float32) for _ in range(3))

    for step in range(1, steps + 1):
        z = generator.standard_normal(v.shape, dtype=np.float32)
        activation = sigmoid((v - p["t_activation_half"]) / p["t_activation_slope"])
        calcium = calcium_most * activation * activation * h
        potassium = p["afterhyperpolarisation_conductance"] * a
        total = passive + calcium + nmda_most / (1 + np.float32(0.28) * np.exp(np.float32(-0.062) * v)) + potassium
        steady = (pull + 120 * calcium - 90 * potassium + noise) / total
        tau = p["t_recovery_fast"] + p["t_recovery_slow"] * sigmoid((v + 60) / np.float32(-3))
        available = sigmoid((p["t_availability_half"] - v) / p["t_availability_slope"])
        v = v - (steady - v) * np.expm1(-dt * total)
        h = h + dt * (available - h) / tau
        a = a + dt * (r / 100 - a) / p["afterhyperpolarisation_time"]
        noise = noise * decay + kick * z
        r = rate(v)
        output = np.mean(r * (1 + r / p["burst_facilitation"]), axis=0)
        distance = output - mean
        mean = mean + distance / np.float32(step)
        spread = spread + distance * (output - mean)
        level = level + np.mean(v, axis=0)
    return np.stack([mean, spread / np.float32(steps), level / np.float32(steps)])
