"""The strictest JAX: two CPU devices, no silent promotion of ranks or dtypes; warnings are errors (pyproject.toml)."""

import gc
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent

jax.config.update("jax_num_cpu_devices", 2)  # so that sharding over devices is tested everywhere
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiled programs are kept between runs, in a folder that git ignores; one per machine, as they hold machine code. A
# bounded cache locks its files, so that all processes of a run share it.
CACHE = ROOT / "build" / "jax-cache" / platform.node()
jax.config.update("jax_compilation_cache_max_size", 4 * 2**30)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

# Begun first, so that at the end neither process waits for the other.
LONGEST = (
    "scan_loop",
    "course",
    "gradients",
    "fit",
    "restore",
    "session",
    "moment",
    "claims",
    "trapping_block",
    "recover",
)

# Most of a test's time goes into compiling. Where bits and machine code do not matter, LLVM need not optimise.
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def pytest_configure(config: pytest.Config) -> None:
    """Choose how XLA compiles, before JAX starts its backend; each choice has a cache of its own."""
    fast = "not optimised" in config.option.markexpr
    if fast:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {UNOPTIMISED}".strip()
    jax.config.update("jax_compilation_cache_dir", str(CACHE / ("unoptimised" if fast else "optimised")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first; within a file the order stays."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)


@pytest.fixture(autouse=True, scope="module")
def _free_memory() -> Iterator[None]:
    """Programs of one file do not outlive it."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def float64() -> Iterator[None]:
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def shared_data() -> Path:
    """The folder of digitised published data, kept beside the repository; a test that needs it skips without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder}")
    return folder
