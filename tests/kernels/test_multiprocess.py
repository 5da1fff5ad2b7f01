"""Two processes on this machine find what one does; launchers are understood; misuse is told before anything hangs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import one_of_several
import pytest

from habenula.kernels import multiprocess
from habenula.kernels.multiprocess import LaunchSettings, ProcessRank

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes wrote, each with one CPU device."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files = [folder / f"{number}.npz" for number in range(2)]
    cache = lambda number: {"JAX_COMPILATION_CACHE_DIR": str(ROOT / "build" / "jax-cache" / f"process-{number}")}
    running = [
        subprocess.Popen(
            [sys.executable, one_of_several.__file__, address, "2", str(number), file],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | cache(number),
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, file in enumerate(files)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in running:
            process.kill()
    return [dict(np.load(file)) for file in files]


@pytest.mark.slow
def test_each_knows_its_place(two):
    assert [found["place"].tolist() for found in two] == [[0, 2], [1, 2]]
    assert [found["devices"].tolist() for found in two] == [[2, 1], [2, 1]]  # in all, and its own


@pytest.mark.slow
def test_subjects_of_two_processes_are_those_of_one_bit_for_bit(two):
    alone = one_of_several.lived(range(one_of_several.SUBJECTS))
    expected = {"subject": alone.subject, **vars(alone.state), "clearance": alone.parameters.clearance}
    assert np.std(expected["gain"]) > 0
    for found in two:
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow
def test_a_gradient_is_the_sum_over_processes(two):
    mine = range(one_of_several.SUBJECTS)
    loss, slope = jax.jit(jax.value_and_grad(lambda gain: one_of_several.squares(gain, mine)))(jnp.float32(0.7))
    for found in two:  # a sum over subjects in another order: rounding apart, equal
        np.testing.assert_allclose(found["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(found["slope"], slope, rtol=1e-5)
    assert two[0]["slope"] == two[1]["slope"]


@pytest.mark.slow
def test_shares_of_any_size_are_joined(two):
    for found in two:
        assert found["uneven"].tolist() == [0, 0, 1, 1, 1]
        assert found["columns"].tolist() == [[0, 0, 1, 1, 1]]


@pytest.mark.parametrize(("subjects", "count"), [(7, 3), (48, 2), (5, 5), (1_000_000, 96)])
def test_shares_are_neighbours_even_and_complete(subjects, count):
    shares = [multiprocess.shard_subjects(subjects, ProcessRank(number, count)) for number in range(count)]
    assert [subject for share in shares for subject in share] == list(range(subjects))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_single_process_needs_no_others():
    assert multiprocess.initialise_processes(count=1, number=0) == ProcessRank(0, 1) == multiprocess.current_process()
    assert multiprocess.shard_subjects(5) == range(5)
    tree = {"a": jnp.arange(3), "b": np.ones((2, 4), np.float32)}
    for found in (multiprocess.gather_over_processes(tree), multiprocess.sum_over_processes(tree)):
        assert jax.tree.map(lambda x, y: np.array_equal(x, y) and x.dtype == y.dtype, found, tree) == {
            "a": True,
            "b": True,
        }


SLURM = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "32", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "node[1-4]"}
TORCH = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "29400"}
MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, LaunchSettings(ProcessRank(0, 1), None, None)),
        (SLURM, LaunchSettings(ProcessRank(5, 32), None, 1)),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "1"}, LaunchSettings(ProcessRank(5, 32), None, 0)),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1"}, LaunchSettings(ProcessRank(5, 32), None, 1)),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "32"},
            LaunchSettings(ProcessRank(0, 1), None, None),
        ),  # a batch script, not yet srun
        (TORCH, LaunchSettings(ProcessRank(3, 8), "node1:29401", 3)),
        (SLURM | TORCH, LaunchSettings(ProcessRank(3, 8), "node1:29401", 3)),
        (SLURM | MPI | {"JAX_COORDINATOR_ADDRESS": "a:1"}, LaunchSettings(ProcessRank(2, 4), "a:1", 0)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, LaunchSettings(ProcessRank(1, 2), None, None)),
    ],
)
def test_what_launchers_tell(environment, expected):
    assert multiprocess.detect_launch(environment) == expected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: multiprocess.initialise_processes(count=2), ValueError, "count=2 and number=None belong together"),
        (lambda: multiprocess.initialise_processes(count=2, number=2), ValueError, "process 2 of 2 is impossible"),
        (
            lambda: multiprocess.initialise_processes(count=2, number=0),
            ValueError,
            "2 processes need an address: .*host:port",
        ),
        (
            lambda: multiprocess.shard_subjects(1, ProcessRank(0, 2)),
            ValueError,
            "subjects=1 are fewer than the 2 processes",
        ),
        (lambda: multiprocess.gather_over_processes(jnp.float32(1.0)), ValueError, r"shape \(\) has no axis=0"),
        (
            lambda: jax.grad(lambda x: multiprocess.sum_over_processes(x))(1.0),
            TypeError,
            "outside jax.jit and jax.grad",
        ),
    ],
)
def test_misuse_is_told(call, error, message, monkeypatch):
    for name in [*SLURM, *TORCH, *MPI, "JAX_COORDINATOR_ADDRESS"]:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=message):
        call()
