"""Numba: plain loops, compiled; subjects in parallel, neurons one after another."""

import importlib.util
import os

import numpy as np
from workload import DT, STATISTICS, Found, Workload, constants


def available() -> str | None:
    """Why it cannot run here, or None."""
    return None if importlib.util.find_spec("numba") else "not installed: pip install numba"


def prepare(workload: Workload, cores: int = 1):
    """Subjects are shared out over `cores` threads."""
    _widen()
    import numba

    numba.set_num_threads(cores)
    simulate = _compiled()
    numbers = constants(workload)
    neuron = np.array(list(numbers.neuron.values()), np.float32)
    conditions = np.stack(list(numbers.conditions.values()), axis=1)

    def run() -> Found:
        found = np.zeros((len(STATISTICS), workload.subjects), np.float32)
        cells = numbers.leak_reversal, numbers.spike_threshold
        simulate(neuron, *cells, conditions, workload.steps, np.float32(DT), workload.seed, found)
        return dict(zip(STATISTICS, found, strict=True))

    return run


def _widen() -> None:
    """Lets LLVM use 512-bit vectors, as ours and the C engine do; Numba reads it when it is imported."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        os.environ.setdefault("NUMBA_CPU_NAME", llvm.get_host_cpu_name())
        os.environ.setdefault("NUMBA_CPU_FEATURES", features.flatten() + ",-prefer-256-bit")


def _compiled():
    """The compiled loop; made only where Numba is installed.

    Exponential, logarithm, sine and cosine are written out: a call into the mathematical library would keep LLVM from
    vectorising the loops over neurons, and Numba from pip has no vector library.
    """
    import numba

    real, word, integer, wide = np.float32, np.uint32, np.int32, np.uint64
    one = real(1)
    inlined = numba.njit(fastmath=True, inline="always", error_model="numpy")

    @inlined
    def exp(x):  # 2^n 2^f, |f| <= 1/2, |x| < 87
        t = x * real(1.44269504)
        n = np.floor(t + real(0.5))
        f = t - n
        q = real(0.240222424) + f * (real(0.0555073358) + f * (real(0.00967151299) + f * real(0.00132647273)))
        power = integer((integer(n) + integer(127)) << integer(23)).view(np.float32)
        return power * (one + f * (real(0.693147004) + f * q))

    @inlined
    def log(x):  # series of the inverse hyperbolic tangent, around the nearest power of 2
        bits = real(x).view(np.int32)
        exponent = integer(integer(bits - integer(0x3F3504F3)) >> integer(23))
        part = integer(bits - integer(exponent << integer(23))).view(np.float32)
        s = (part - one) / (part + one)
        square = s * s
        series = one + square * (real(1 / 3) + square * (real(1 / 5) + square * real(1 / 7)))
        return real(exponent) * real(0.693147181) + real(2) * s * series

    @inlined
    def sigmoid(x):
        return one / (one + exp(-x))

    @numba.njit(fastmath=True, error_model="numpy")
    def normals(seed, subject, pair, z):  # Philox2x32-10 and Box-Muller; Numba's own normals are in double precision
        for k in range(z.shape[1]):
            a, b = wide(subject), wide(pair)
            key = word(word(seed) + word(0x85EBCA6B) * word(k + 1))
            for _ in range(10):
                product = (a & wide(0xFFFFFFFF)) * wide(0xD256D193)
                a = (product >> wide(32)) ^ wide(key) ^ b
                b = product
                key = word(key + word(0x9E3779B9))
            radius, angle = word(word(a) | word(1)), word(b)
            length = np.sqrt(real(-2) * log(real(radius) * real(2.0**-32)))
            f = real(integer(angle << word(2))) * real(2.0**-32)  # of a quarter turn, -1/2 to 1/2
            g = f * f
            cosine = one + g * (
                real(-1.23370055) + g * (real(0.253669508) + g * (real(-0.0208634807) + g * real(0.00091926)))
            )
            sine = real(-0.645964098) + g * (real(0.0796926262) + g * (real(-0.00468175414) + g * real(0.000160441185)))
            sine = f * (real(1.57079633) + g * sine)
            length = -length if angle & word(0x40000000) else length
            swap = angle >= word(0x80000000)
            z[0, k] = length * (sine if swap else cosine)
            z[1, k] = length * (cosine if swap else sine)

    @numba.njit(parallel=True, fastmath=True, error_model="numpy")
    def simulate(neuron, leak_reversal, spike_threshold, conditions, steps, dt, seed, found):
        (leak, _, _, _, _, slope, t_conductance, t_half, t_slope, h_half, h_slope, fast_time, slow_time, ampa, nmda,
         ahp, ahp_time, sd, facilitation) = neuron  # fmt: skip
        neurons = len(leak_reversal)
        decay = exp(-dt / real(5))
        kick = sd * np.sqrt(one - decay * decay)
        for subject in numba.prange(len(conditions)):
            excitation, unblocked, t_channel, shift, current, inhibition = conditions[subject]
            passive = leak + ampa * excitation + inhibition
            pull = leak * shift - real(72) * inhibition + current
            v = leak_reversal + shift
            h, r, a, noise = np.empty_like(v), np.empty_like(v), np.zeros_like(v), np.zeros_like(v)
            for k in range(neurons):
                h[k] = sigmoid((h_half - v[k]) / h_slope)
                r[k] = real(250) * sigmoid((v[k] - spike_threshold[k]) / slope)
            z = np.empty((2, neurons), np.float32)
            mean, spread, level = 0.0, 0.0, 0.0
            for step in range(steps):
                if step % 2 == 0:
                    normals(seed, subject, step // 2, z)
                kicks = z[step % 2]
                output, height = real(0), real(0)
                for k in range(neurons):
                    activation = sigmoid((v[k] - t_half) / t_slope)
                    calcium = t_conductance * t_channel * activation * activation * h[k]
                    unblock = one / (one + real(0.28) * exp(real(-0.062) * v[k]))
                    potassium = ahp * a[k]
                    total = passive + calcium + nmda * excitation * unblocked * unblock + potassium
                    drive = leak * leak_reversal[k] + pull + real(120) * calcium - real(90) * potassium + noise[k]
                    tau = fast_time + slow_time * sigmoid((v[k] + real(60)) / real(-3))
                    available = sigmoid((h_half - v[k]) / h_slope)
                    v[k] += (drive / total - v[k]) * (one - exp(-total * dt))
                    h[k] += dt * (available - h[k]) / tau
                    a[k] += dt * (r[k] * real(0.01) - a[k]) / ahp_time
                    noise[k] = noise[k] * decay + kick * kicks[k]
                    r[k] = real(250) * sigmoid((v[k] - spike_threshold[k]) / slope)
                    output += r[k] * (one + r[k] / facilitation)
                    height += v[k]
                distance = output / neurons - mean
                mean += distance / (step + 1)
                spread += distance * (output / neurons - mean)
                level += height / neurons
            found[0, subject], found[1, subject], found[2, subject] = mean, spread / steps, level / steps

    return simulate
