"""What the hardware at hand can do: every number about it stands here, measured on this machine or assumed.

`study.probe` measures and keeps; a library call only reads, so that it never takes longer than it must.
"""

import contextlib
import dataclasses
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from ..data.cache_folder import user_cache


@dataclasses.dataclass(frozen=True)
class DeviceRates:
    """How fast one device is.

    Attributes:
        quiet: subject-hours/s of a course under tablets, or none.
        treated: subject-hours/s of one that follows ketamine within the hour.
        neurons: neuron-steps/s of a moment.
        launch: s, what a step costs however few subjects there are.
        begin: s, what a run costs however short it is: checks, and the way to the device and back.
        compiling: s, once, to compile a run for the first time.
        measured: whether these are of this machine; assumed if not.
    """

    quiet: float
    treated: float
    neurons: float
    launch: float
    begin: float
    compiling: float
    measured: bool = False


# Assumed, on the slow side: a core of a server's processor of 2019, and a plain loop on any GPU of the last years, where
# the launch of some dozens of kernels a step is what counts up to tens of thousands of subjects.
ASSUMED_RATES = {
    "cpu": DeviceRates(quiet=2e6, treated=5e5, neurons=8e7, launch=2e-6, begin=0.02, compiling=30.0),
    "gpu": DeviceRates(quiet=2e8, treated=5e7, neurons=5e9, launch=4e-4, begin=0.02, compiling=60.0),
}
GRADIENT_COST = {"course": 3.4, "moment": 4.9}  # forward runs that a gradient costs: `benchmarks/run.py slow fast`
DEFAULT_FREE_MEMORY = 4 * 2**30  # bytes of memory that are free, where the system does not say


@dataclasses.dataclass(frozen=True)
class Machine:
    """What there is to run on.

    Attributes:
        devices: how many, by platform ("cpu", "gpu"). A core is a CPU device if JAX was told so.
        rates: by platform.
        memory: bytes that are free, by platform.
    """

    devices: Mapping[str, int]
    rates: Mapping[str, DeviceRates]
    memory: Mapping[str, int]


def detect_machine() -> Machine:
    """This machine, as JAX sees it, with measured rates where there are any."""
    found = {"cpu": jax.local_devices(backend="cpu")}
    if jax.default_backend() != "cpu":
        found = {jax.default_backend(): jax.local_devices(), "cpu": found["cpu"][:1]}  # see `planner`
    kept = read_rates(rates_file())
    rates = {name: kept.get(hardware_key(name)) or ASSUMED_RATES.get(name, ASSUMED_RATES["gpu"]) for name in found}
    memory = {name: _free_memory(name, devices[0]) for name, devices in found.items()}
    return Machine({name: len(devices) for name, devices in found.items()}, rates, memory)


def rates_file() -> Path:
    """Where measured rates are kept."""
    return user_cache() / "rates.json"


def hardware_key(name: str) -> str:
    """What rates of a platform hold for: the device, how many, and the versions that make its machine code."""
    devices = jax.devices(name)
    kind = _processor_name() if name == "cpu" else devices[0].device_kind
    versions = ", ".join(f"{package} {_package_version(package)}" for package in ("habenula", "jax", "jaxlib"))
    return f"{len(devices)} x {kind}; {versions}"


def read_rates(file: Path) -> dict[str, DeviceRates]:
    """Rates by key; without those that are damaged or of another form, which a probe mends."""
    found: dict[str, DeviceRates] = {}
    try:
        told = json.loads(file.read_text()).items()
    except (OSError, ValueError, AttributeError):
        return found
    for key, each in told:
        with contextlib.suppress(TypeError):
            found[key] = DeviceRates(**each, measured=True)
    return found


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "from source"


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _free_memory(name: str, device: Any) -> int:
    """Bytes of memory that may still be taken."""
    if name != "cpu":
        told = device.memory_stats() or {}
        return told.get("bytes_limit", DEFAULT_FREE_MEMORY) - told.get("bytes_in_use", 0)
    information = Path("/proc/meminfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), DEFAULT_FREE_MEMORY)
