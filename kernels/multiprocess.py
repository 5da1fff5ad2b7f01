"""Data parallelism over processes, on one machine or many: each simulates a share of the subjects; results are gathered.

    here = multiprocess.initialise_processes()                                      # first, before JAX computes anything
    mine = multiprocess.shard_subjects(1_000_000)                             # the numbers of this process's subjects
    cohort = draw(depressed(), len(mine), seed=1, first=mine.start)
    seen = course(cohort, arm, days=84)
    output = multiprocess.gather_over_processes(seen["vta_output"])                 # of all million, in every process
    if here.number == 0: ...                                      # one of them writes the file

The same program is launched once a process:

    srun --nodes=4 --ntasks-per-node=8 --gres=gpu:8 python study.py                     Slurm, a GPU to each process
    torchrun --nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=node1:29500 study.py     or what sets the
        same variables: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
    mpirun -n 32 -x JAX_COORDINATOR_ADDRESS=node1:29500 python study.py                 Open MPI, MPICH (with -genv)

Subjects are divided over processes, instead of one array over all devices: the number of a subject determines its traits
and its noise, so processes need not communicate during a simulation. Every program stays that of one process and returns
plain arrays. Collectives (gloo between CPUs, NCCL between GPUs) run only where results are gathered. Within a process,
`Plan(devices=...)` divides its subjects over its own devices.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jaxtyping import PyTree

# By launcher: variables of the process number, the number of processes, and the number on its machine. In this order:
# torchrun and mpirun may themselves have been started by Slurm, which then numbers machines.
LAUNCHER_VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "MPICH": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),  # set by srun alone, not for a batch script
}
_COORDINATOR_VARIABLES = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri")  # from which JAX finds process 0


class ProcessRank(NamedTuple):
    """Rank of a process.

    Attributes:
        number: from 0.
        of: number of processes.
    """

    number: int
    of: int


class LaunchSettings(NamedTuple):
    """What the launcher of a process determines.

    Attributes:
        place: of this process.
        address: host:port of process 0; None if JAX must find it.
        device: which of the machine's GPUs this process takes; None for all that it sees.
    """

    place: ProcessRank
    address: str | None
    device: int | None


def initialise_processes(
    address: str | None = None, count: int | None = None, number: int | None = None
) -> ProcessRank:
    """Connect to the other processes and return the rank of this one. Without a launcher there is only one.

    Call it once, before anything else of JAX. Each process takes one GPU of its machine, the one of its local number;
    JAX_LOCAL_DEVICE_IDS=0,1,2,3 gives it several.

    Args:
        address: host:port of process 0, a free port; detected under Slurm and torchrun, else taken from
            JAX_COORDINATOR_ADDRESS.
        count: of processes; from the launcher if not given.
        number: of this process, likewise.

    Raises:
        ValueError: a count without a number, or the other way round; a number that is not below the count; several
            processes and no address.
    """
    launch = detect_launch(os.environ)
    if (count is None) != (number is None):
        raise ValueError(f"{count=} and {number=} belong together: give both, or neither under a launcher.")
    place = launch.place if count is None or number is None else ProcessRank(number, count)
    if not 0 <= place.number < place.of:
        raise ValueError(f"process {place.number} of {place.of} is impossible: numbers go from 0 to count - 1.")
    if place.of == 1:
        return place
    address = address or launch.address
    if address is None and not any(name in os.environ for name in _COORDINATOR_VARIABLES):
        raise ValueError(
            f"{place.of} processes need an address: set JAX_COORDINATOR_ADDRESS=host:port for all of them, the "
            "host that of process 0, the port free there."
        )
    chosen = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    devices = None if chosen or launch.device is None else [launch.device]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, place.of, place.number, devices)
    return place


def detect_launch(environment: Mapping[str, str]) -> LaunchSettings:
    """Launch settings from environment variables; a single process without a launcher."""
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    for launcher, (number, count, local) in LAUNCHER_VARIABLES.items():
        if number in environment and count in environment:
            if launcher == "torchrun" and address is None and "MASTER_ADDR" in environment:
                # The launcher itself listens at MASTER_PORT.
                address = f"{environment['MASTER_ADDR']}:{int(environment.get('MASTER_PORT', 29500)) + 1}"
            has_one_gpu = (
                environment.get("CUDA_VISIBLE_DEVICES", "").count(",") == 0 and "CUDA_VISIBLE_DEVICES" in environment
            )
            device = (
                0 if has_one_gpu else environment.get(local)
            )  # the launcher may have assigned one GPU to each process
            place = ProcessRank(int(environment[number]), int(environment[count]))
            return LaunchSettings(place, address, None if device is None else int(device))
    return LaunchSettings(ProcessRank(0, 1), address, None)


def current_process() -> ProcessRank:
    """Rank of this process."""
    return ProcessRank(jax.process_index(), jax.process_count())


def shard_subjects(subjects: int, at: ProcessRank | None = None) -> range:
    """Numbers of the subjects of one process: contiguous, divided as evenly as possible.

    Args:
        subjects: in all processes together.
        at: the process; this one if not given.

    Raises:
        ValueError: fewer subjects than processes.

    Example:
        >>> shard_subjects(10, ProcessRank(1, 3))
        range(3, 6)
    """
    number, count = current_process() if at is None else at
    if subjects < count:
        raise ValueError(f"{subjects=} are fewer than the {count} processes: start fewer.")
    return range(number * subjects // count, (number + 1) * subjects // count)


def gather_over_processes(tree: PyTree, axis: int = 0) -> PyTree:
    """All-gather: every leaf of all processes, joined along `axis` in their order.

    A collective: every process calls it, in the same order, and gets the same NumPy arrays, those that one process
    would have computed alone. Sizes along `axis` may differ.

    Raises:
        TypeError: under `jax.jit` or a derivative.
        ValueError: a leaf without that axis.
    """
    leaves, structure = jax.tree.flatten(_concrete_arrays(tree, "gather_over_processes"))
    for leaf in leaves:
        if not -leaf.ndim <= axis < leaf.ndim:
            raise ValueError(f"a leaf of shape {leaf.shape} has no {axis=} along which to join processes.")
    if not leaves:
        return tree
    sizes = np.asarray(multihost_utils.process_allgather(np.array([leaf.shape[axis] for leaf in leaves], np.int32)))
    joined = [
        _gather_leaf(leaf, axis, each) for leaf, each in zip(leaves, sizes.reshape(-1, len(leaves)).T, strict=True)
    ]
    return jax.tree.unflatten(structure, joined)


def sum_over_processes(tree: PyTree) -> PyTree:
    """All-reduce: every leaf summed over processes, in their order, so that all get the same bits.

    A collective, like `gather_over_processes`, for sums over subjects: a loss, or its gradient by shared parameters.

    Raises:
        TypeError: under `jax.jit` or a derivative.
    """
    gathered = multihost_utils.process_allgather(_concrete_arrays(tree, "sum_over_processes"))
    return jax.tree.map(
        lambda x, like: np.asarray(x).reshape(-1, *np.shape(like)).sum(axis=0, dtype=x.dtype), gathered, tree
    )


def _gather_leaf(leaf: np.ndarray, axis: int, sizes: np.ndarray) -> np.ndarray:
    """A leaf of all processes, padded to the largest for the transfer."""
    moved = np.moveaxis(leaf, axis, 0)
    padded = np.pad(moved, [(0, int(sizes.max()) - len(moved))] + [(0, 0)] * (moved.ndim - 1))
    shares = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), *padded.shape)
    return np.moveaxis(np.concatenate([share[:size] for share, size in zip(shares, sizes, strict=True)]), 0, axis)


def _concrete_arrays(tree: PyTree, name: str) -> PyTree:
    """Leaves as NumPy arrays with the dtypes of JAX."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        raise TypeError(
            f"{name} communicates between processes and cannot be traced: call it outside jax.jit and jax.grad."
        )
    return jax.tree.map(lambda leaf: np.asarray(jnp.asarray(leaf)), tree)
