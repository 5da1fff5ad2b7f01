"""The strictest JAX: two CPU devices, no silent promotion of ranks or dtypes; warnings are errors (pyproject.toml)."""

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
# Compiled programs are kept between runs, in a folder that git ignores; one per machine, as they hold machine code, and
# one per process, as they are not written in one piece.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
jax.config.update("jax_compilation_cache_dir", str(ROOT / "build" / "jax-cache" / platform.node() / WORKER))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

# Begun first, so that at the end neither process waits for the other.
LONGEST = ("simulate", "moment", "gradients", "fit", "claims", "fused", "survey", "tangents", "trial")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first; within a file the order stays."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)


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
