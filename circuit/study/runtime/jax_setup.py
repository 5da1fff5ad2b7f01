"""What the command line arranges before JAX starts: cores as devices, and a cache of compiled programs."""

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

from ...data.cache_folder import user_cache


def count_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compile_cache_folder() -> Path:
    """Where compiled programs are kept, in the user's cache folder: one folder a machine, as they hold machine code."""
    return user_cache() / f"jax-{platform.machine()}-{platform.node() or 'here'}"


def start_jax() -> int:
    """Start JAX with one CPU device for each core and a persistent cache, and say over how many devices to divide work.

    What the user has set, by environment or configuration, stays.
    """
    import jax

    config: Any = jax.config  # its options are attributes that no type checker knows
    if config.jax_num_cpu_devices < 1:
        with contextlib.suppress(RuntimeError):  # JAX is up already, as in a notebook: it keeps the devices it has
            config.update("jax_num_cpu_devices", count_cores())
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(compile_cache_folder()))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # small programs are many
    return jax.local_device_count()


def active_cache_folder() -> str | None:
    """The folder in which JAX keeps compiled programs, if any."""
    import jax

    config: Any = jax.config
    return config.jax_compilation_cache_dir
