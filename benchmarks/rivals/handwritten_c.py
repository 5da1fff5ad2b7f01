"""By hand in C, tuned at length (lhb.c); built where it runs, for the processor it runs on."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from workload import DT, STATISTICS, Found, Workload, constants

SOURCE = Path(__file__).with_name("lhb.c")
FLAGS = (
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-ffast-math",
    "-fschedule-insns",
    "-fopenmp",
    "-fPIC",
)
# Linked without -ffast-math, which would round small numbers to 0 in all of the process that loads the library.
LINK = ("-shared", "-fopenmp")


def available() -> str | None:
    """Why it cannot run here, or None."""
    return None if shutil.which("gcc") else "not installed: gcc"


def build(source: Path = SOURCE) -> Path:
    """The shared library, built anew for another source, other flags or another processor."""
    target = subprocess.run(["gcc", "-march=native", "-Q", "--help=target"], capture_output=True, check=True).stdout
    name = hashlib.sha256(source.read_bytes() + target + " ".join((*FLAGS, *LINK)).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / "habenula-benchmarks" / f"{source.stem}-{name}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:  # a half-written library must not be found
            compiled, linked = Path(folder) / f"{source.stem}.o", Path(folder) / library.name
            subprocess.run(["gcc", *FLAGS, "-c", "-o", compiled, source], check=True, capture_output=True)
            subprocess.run(["gcc", *LINK, "-o", linked, compiled, "-lmvec", "-lm"], check=True)
            linked.replace(library)
    return library


def prepare(workload: Workload, cores: int = 1, source: Path = SOURCE):
    """OpenMP shares tiles of 64 subjects out over `cores` threads."""
    numbers = constants(workload)
    simulate = ctypes.CDLL(str(build(source))).lhb_run
    pointer = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    whole, real, word = ctypes.c_int, ctypes.c_float, ctypes.c_uint32
    simulate.argtypes = [pointer] * 4 + [whole] * 3 + [real, word, whole, pointer]
    simulate.restype = None
    neuron = np.array(list(numbers.neuron.values()), np.float32)
    conditions = np.stack(list(numbers.conditions.values()))

    def run() -> Found:
        found = np.empty((len(STATISTICS), workload.subjects), np.float32)
        sizes = workload.subjects, workload.neurons, workload.steps
        cells = numbers.leak_reversal, numbers.spike_threshold
        simulate(neuron, *cells, conditions, *sizes, DT, workload.seed, cores, found)
        return dict(zip(STATISTICS, found, strict=True))

    return run
