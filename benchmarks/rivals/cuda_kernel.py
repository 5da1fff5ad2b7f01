"""By hand in CUDA (lhb.cu): a warp for each subject, built where it runs for the GPU it runs on."""

import ctypes
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from workload import DT, STATISTICS, Found, Workload, constants

SOURCE = Path(__file__).with_name("lhb.cu")
WARP = 32
ARCHITECTURE = "sm_90"  # Hopper, where none is there to ask
FLAGS = ("-O3", "-use_fast_math")


def available() -> str | None:
    """Why it cannot run here, or None."""
    if not shutil.which("nvcc"):
        return "not installed: nvcc, of NVIDIA's CUDA toolkit"
    return None if device() else "no NVIDIA GPU"


def device() -> str | None:
    """The first GPU's name, if there is one."""
    found = _ask("name")
    return found[0] if found else None


def build(neurons: int, folder: Path) -> Path:
    """The shared library for populations of this size.

    Raises:
        ValueError: neurons that do not fill warps.
    """
    if neurons % WARP:
        raise ValueError(f"{neurons=} must be a multiple of {WARP}: the lanes of a warp hold a subject's neurons.")
    library = folder / f"lhb-{neurons}.so"
    _compile(neurons, "-shared", "-Xcompiler", "-fPIC", "-o", str(library))
    return library


def resources(neurons: int = WARP) -> dict[str, int]:
    """Registers of a thread, and bytes of it that were spilled to memory, told by the assembler; no GPU is needed."""
    with tempfile.TemporaryDirectory() as folder:
        told = _compile(neurons, "-Xptxas", "-v", "-cubin", "-o", str(Path(folder) / "lhb.cubin"))
    number = lambda pattern: int(re.search(pattern, told).group(1))
    return {"registers": number(r"Used (\d+) registers"), "spilled": number(r"(\d+) bytes spill stores")}


def machine_code(neurons: int = WARP) -> bytes | None:
    """The kernel for Hopper; None without the compiler."""
    if not shutil.which("nvcc"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "lhb.cubin"
        _compile(neurons, "-cubin", "-o", str(binary), architecture=ARCHITECTURE)
        return binary.read_bytes()


def prepare(workload: Workload, cores: int = 1):
    """The GPU does it all, whatever the cores. A run counts the kernel's own time, without the copies."""
    numbers = constants(workload)
    with tempfile.TemporaryDirectory() as folder:
        simulate = ctypes.CDLL(str(build(workload.neurons, Path(folder)))).lhb_run
    pointer = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    simulate.argtypes = [pointer] * 4 + [ctypes.c_int] * 2 + [ctypes.c_float, ctypes.c_uint32] + [pointer] * 2
    neuron = np.array(list(numbers.neuron.values()), np.float32)
    conditions = np.stack(list(numbers.conditions.values()))

    def run() -> Found:
        found, milliseconds = np.empty((len(STATISTICS), workload.subjects), np.float32), np.zeros(1, np.float32)
        cells = numbers.leak_reversal, numbers.spike_threshold
        sizes = workload.subjects, workload.steps
        if error := simulate(neuron, *cells, conditions, *sizes, DT, workload.seed, found, milliseconds):
            raise RuntimeError(f"CUDA error {error}")
        return dict(zip(STATISTICS, found, strict=True)) | {"seconds": float(milliseconds[0]) / 1000}

    return run


def _compile(neurons: int, *arguments: str, architecture: str | None = None) -> str:
    """What the compiler said. For the GPU that is there, if no other is named."""
    if architecture is None:
        capability = _ask("compute_cap")
        architecture = "sm_" + capability[0].replace(".", "") if capability else ARCHITECTURE
    command = ["nvcc", *FLAGS, f"-arch={architecture}", f"-DPER_LANE={neurons // WARP}", *arguments, str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout + done.stderr


def _ask(field: str) -> list[str]:
    """One line for each GPU."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []
