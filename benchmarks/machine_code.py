"""What kernels take of a GPU, read from their machine code: no GPU is needed.

A function is lowered for a GPU that is not there, as far as Triton's language, in which Pallas leaves kernels to XLA. From
there Triton's own package (pip install triton) goes on to machine code. XLA does the same with a release of its own, so that
what runs may differ by a few instructions. Nothing here is a measurement.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ARCHITECTURE = 90  # Hopper: H100, H200
# H100 SXM: 132 multiprocessors of four schedulers, which issue to 32 threads a cycle; 67 TFLOP/s in single precision make
# 1.98 GHz (NVIDIA, H100 datasheet).
SCHEDULERS, CLOCK, WARP = 132 * 4, 1.98e9, 32
# Cycles for which an instruction of 32 threads keeps a unit of a scheduler busy; all others, one. CUDA C++ Programming Guide,
# throughput of native arithmetic instructions, compute capability 9.0; for matrices, 495 TFLOP/s of TF32 (datasheet).
UNITS = {
    "special functions": (8, "MUFU"),
    "exchange and memory": (4, "SHFL LDS STS LDSM STSM LDL STL LDG STG"),
    "integers and choices": (
        2,
        "IADD3 VIADD LOP3 LEA SHF SGXT ISETP SEL FSEL FSETP FMNMX VIMNMX I2FP I2F F2I PRMT IABS",
    ),
    "matrices": (4, "HMMA"),
}
GENERATOR = "2da92e6d"  # how the multiplier of Philox2x32 looks, negative


class Kernel(NamedTuple):
    """A kernel in Triton's language, and of how many warps it is."""

    text: str
    warps: int


class Resources(NamedTuple):
    """What a kernel takes of a multiprocessor.

    Attributes:
        registers: of a thread; 255 is the most.
        spilled: bytes of a thread that did not fit into registers.
        instructions: in all.
        a_step: instructions that a thread issues in a step, its share of a block's end included; by name.
    """

    registers: int
    spilled: int
    instructions: int
    a_step: Counter

    @property
    def step_instructions(self) -> float:
        """How many a thread issues in a step."""
        return sum(self.a_step.values())

    @property
    def most_steps(self) -> float:
        """An estimate: steps of threads in a second on an H100, were its fullest unit never idle. Not a measurement."""
        busy = [self.step_instructions]
        for cycles, names in UNITS.values():
            busy.append(cycles * sum(self.a_step[name] for name in names.split()))
        return SCHEDULERS * CLOCK * WARP / max(busy)


def available() -> str | None:
    """Why kernels cannot be compiled here, or None."""
    if importlib.util.find_spec("triton") is None:
        return "not installed: pip install triton (Linux), the compiler of kernels"
    missing = [name for name in ("nvdisasm", "cuobjdump") if not tool(name)]
    return f"not installed: {', '.join(missing)}, of NVIDIA's CUDA toolkit or of another triton" if missing else None


def tool(name: str) -> str | None:
    """Where a program of NVIDIA's is: in the path, or in Triton's package."""
    package = importlib.util.find_spec("triton")
    beside = Path(package.origin).parent / "backends" / "nvidia" / "bin" if package and package.origin else None
    return shutil.which(name) or (beside and shutil.which(name, path=str(beside)))


def kernels(function: Callable, *arguments) -> list[Kernel]:
    """Those in the program of `function` for a GPU, in order."""
    import jax
    from jaxlib.mlir import ir

    elsewhere = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("x",), abstract_device=elsewhere)
    with jax.sharding.use_abstract_mesh(mesh), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Triton.*", category=DeprecationWarning)  # newer JAX says so
        program = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo")
    found = []

    def look(operation):
        target = operation.attributes["call_target_name"] if operation.name == "stablehlo.custom_call" else ""
        if "triton" in str(target):
            told = operation.attributes["mhlo.backend_config"]
            found.append((ir.StringAttr(told["ir"]).value_bytes, ir.IntegerAttr(told["num_warps"]).value))
        return ir.WalkResult.ADVANCE

    with program.context:
        program.operation.walk(look)
    return [Kernel(_readable(packed), warps) for packed, warps in found]


def compiled(kernel: Kernel) -> bytes:
    """Its machine code for Hopper."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TRITON_CACHE_DIR", folder)
        import triton
        from triton.backends.compiler import GPUTarget

        path = Path(folder) / "kernel.ttir"
        path.write_text(kernel.text)
        # As XLA asks for it: products and sums in one, small numbers kept by the library.
        options = {"num_warps": kernel.warps, "num_stages": 1, "enable_fp_fusion": True, "enable_reflect_ftz": False}
        made = triton.compile(str(path), target=GPUTarget("cuda", ARCHITECTURE, WARP), options=options)
        return made.asm["cubin"]


def resources(cubin: bytes, block: int) -> Resources:
    """Of a kernel that makes its steps in blocks of so many."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        ask = lambda name, *words: (
            subprocess.run([str(tool(name)), *words, str(path)], capture_output=True, text=True, check=True).stdout
        )
        usage, text = ask("cuobjdump", "-res-usage"), ask("nvdisasm", "-c")
    told = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage))
    lines, _ = _parsed(text)
    return Resources(int(told["REG"]), max(int(told["STACK"]), int(told["LOCAL"])), len(lines), a_step(text, block))


def a_step(text: str, block: int) -> Counter:
    """Instructions that a thread issues in a step, by name: those of the loop in which noise is made.

    A part that is passed over at every second step, as a pair of normals serves two, counts half; of the loop around, that of
    blocks, a step has its share.

    Raises:
        ValueError: no loop holds the generator.
    """
    lines, places = _parsed(text)
    jumps = [
        (i, places[to.group()]) for i, line in enumerate(lines) if "BRA" in line and (to := re.search(r"\.L\w+", line))
    ]
    random = [i for i, line in enumerate(lines) if GENERATOR in line]
    loops = sorted((i + 1 - to, to, i + 1) for i, to in jumps if to <= i and any(to <= at <= i for at in random))
    if not loops:
        raise ValueError("no loop of the machine code makes noise: there is no step to count.")
    _, begin, end = loops[0]
    weights = dict.fromkeys(range(begin, end), 1.0)
    for i, to in jumps:
        if begin <= i < to < end and any(i < at < to for at in random):
            weights |= dict.fromkeys(range(i + 1, to), 0.5)
    for _, first, last in loops[1:2]:
        weights |= {i: 1 / block for i in range(first, last) if i not in weights}
    counted: Counter = Counter()
    for i, weight in weights.items():
        counted[_name(lines[i])] += weight
    return counted


def _name(line: str) -> str:
    """Of an instruction, without its predicate and its variant."""
    return re.sub(r"^@!?\w+\s+", "", line).split()[0].partition(".")[0]


def _parsed(text: str) -> tuple[list[str], dict[str, int]]:
    """Instructions in order, and before which of them a label stands."""
    lines, places = [], {}
    for line in text.splitlines():
        if label := re.match(r"(\.L\w+):", line):
            places[label.group(1)] = len(lines)
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(\S.*)", line):
            lines.append(instruction.group(1))
    return lines, places


def _readable(packed: bytes) -> str:
    """Releases of Triton do not read each other's packed form, but mostly each other's text."""
    from jaxlib.mlir import ir
    from jaxlib.triton import dialect

    context = ir.Context()
    dialect.register_dialect(context)
    context.load_all_available_dialects()
    with context:
        return str(ir.Module.parse(packed))
