"""Whether this installation computes what it should: versions, devices, and three self-checks."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ....kernels import Plan, has_hoisted_call, integrate
from ...model import lateral_habenula, transfer_function
from ...simulation import hardware
from ..runtime import jax_setup, probe

CHECKED_PACKAGES = ("habenula", "jax", "jaxlib", "numpy", "equinox", "optax")
FAULTY_JAX_VERSIONS = ("0.10.2",)  # versions of jax and jaxlib known to compute wrong sums on CPU (jax issue 39103)
# Rows and columns: the sizes of the report in both precisions, and others around them.
SUM_SHAPES = ((1_000, 3), (16_385, 3), (32_769, 2), (32_769, 3), (32_769, 4), (40_000, 3))
SUM_TOLERANCE = 1e-4  # relative; the fault is a few parts in a thousand and more, rounding in float32 some 1e-6


class InstallationCheck(NamedTuple):
    """One line of the report.

    Attributes:
        name: what was looked at.
        found: what it is, or what is wrong and what to do.
        passed: None where there is nothing to pass.
    """

    name: str
    found: str
    passed: bool | None = None


def run_checks(measure: bool = False) -> Iterator[InstallationCheck]:
    """Every check, in the order of the report; the last three compile something. With `measure`, speed is measured too."""
    yield InstallationCheck("python", platform.python_version())
    yield from (_check_package(name) for name in CHECKED_PACKAGES)
    yield InstallationCheck("devices", _describe_devices())
    yield InstallationCheck("cores", str(jax_setup.count_cores()))
    yield _check_cache()
    yield _check_speed(measure)
    yield _check_transfer_function()
    yield _check_sums()
    yield _check_hoisting()


def checks_to_json(found: list[InstallationCheck]) -> dict:
    """Plain data: `passed` of the whole, and `run_checks`, each with `name`, `found` and `passed`."""
    return {"passed": all_passed(found), "checks": [check._asdict() for check in found]}


def all_passed(found: list[InstallationCheck]) -> bool:
    """Whether no check failed."""
    return all(check.passed is not False for check in found)


def largest_sum_error() -> float:
    """Largest relative error, over several shapes, of a batched small matrix product that is then summed.

    The oracle is NumPy in double precision. On CPU, jax 0.10.2 gets single rows wrong, and only of some sizes.
    """
    return max(_sum_error(rows, width) for rows, width in SUM_SHAPES)


def _sum_error(rows: int, width: int) -> float:
    random = np.random.default_rng(rows + width)
    matrix = random.normal(size=(width, width)).astype(np.float32)
    x = random.normal(size=(rows, width)).astype(np.float32)
    exact = np.sum((x.astype(np.float64) @ matrix.astype(np.float64).T) ** 2, axis=1)
    held = jnp.asarray(matrix)  # a constant of the program, as in the report of the fault
    found = jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(held @ row))))(jnp.asarray(x))
    return float(np.max(np.abs(np.asarray(found, np.float64) - exact) / np.mean(exact)))


def _check_package(name: str) -> InstallationCheck:
    try:
        found = version(name)
    except PackageNotFoundError:
        return (
            InstallationCheck(name, "runs from its source, not installed")
            if name == "habenula"
            else InstallationCheck(name, "missing", False)
        )
    if name in ("jax", "jaxlib") and found in FAULTY_JAX_VERSIONS:
        return InstallationCheck(
            name, f"{found} computes wrong sums on CPU (jax issue 39103); install another version", False
        )
    return InstallationCheck(name, found)


def _describe_devices() -> str:
    kinds = [device.device_kind for device in jax.devices()]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))


def _check_cache() -> InstallationCheck:
    folder = jax_setup.active_cache_folder()
    if not folder:
        return InstallationCheck("cache folder", "none: every run compiles anew")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        return InstallationCheck("cache folder", f"{folder}: {error.strerror}; set JAX_COMPILATION_CACHE_DIR", False)
    if not os.access(folder, os.W_OK):
        return InstallationCheck("cache folder", f"{folder} cannot be written; set JAX_COMPILATION_CACHE_DIR", False)
    return InstallationCheck("cache folder", folder, True)


def _check_speed(measure: bool) -> InstallationCheck:
    rates = probe.measure_rates() if measure else hardware.detect_machine().rates[jax.default_backend()]
    numbers = f"{rates.quiet:.2g} subject-hours/s, {rates.neurons:.2g} neuron-steps/s on each device"
    return InstallationCheck("speed", f"{numbers}, {'measured' if rates.measured else 'assumed; --probe measures it'}")


def _check_transfer_function() -> InstallationCheck:
    neuron = lateral_habenula.neuron_constants()
    try:
        transfer_function.read_transfer_function(neuron)
    except (ValueError, OSError) as error:
        return InstallationCheck("transfer function", str(error), False)
    return InstallationCheck(
        "transfer function", f"matches the neuron's constants ({transfer_function.neuron_fingerprint(neuron)})", True
    )


def _check_sums() -> InstallationCheck:
    error = largest_sum_error()
    if error <= SUM_TOLERANCE:  # false for NaN too
        return InstallationCheck("sums", f"right to {error:.0e}", True)
    return InstallationCheck("sums", f"wrong by {error:.2g} (jax issue 39103): install another version of jax", False)


def _check_hoisting() -> InstallationCheck:
    """Compile a small run of the time loop and see whether it became one piece of machine code."""
    if jax.default_backend() != "cpu":
        return InstallationCheck("hoisted loop", f"not used on {jax.default_backend()}")
    fall = lambda x, shared, own, inputs, z, j: (x - 0.1 * x + 0.01 * z[0], x)
    run = lambda x, subjects: integrate(fall, x, steps=64, subjects=subjects, channels=1, plan=Plan(tile=16)).state
    program = jax.jit(run).lower(jnp.ones(16), jnp.arange(16, dtype=jnp.uint32)).compile().as_text()
    if has_hoisted_call(program or ""):
        return InstallationCheck("hoisted loop", "taken", True)
    return InstallationCheck(
        "hoisted loop", f"not taken by jaxlib {version('jaxlib')}: results are right, but runs are slower", False
    )
