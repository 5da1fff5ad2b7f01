"""A race: every engine in a process of its own, on the same cores, taking turns.

Round after round, each engine makes one run while the others wait, so that whatever else the machine does meets all of them.
An engine must first do the same work as ours (see `workload`); one that does not is named, and not timed.
"""

import importlib
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from workload import Found, Workload, compare, compare_exact, without_noise

OURS = "habenula"
PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu"}  # as JAX calls them; the first is where it runs
SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # so that processes share a GPU: none takes what it does not need
LIMIT = 240.0  # s, after which an engine on a GPU is taken to hang
MISSING, FAILED, READY = "missing", "failed", "ready"


class Prepared(NamedTuple):
    """What an engine's process tells once it is ready.

    Attributes:
        exact: results of the run without noise.
        found: results of the first run.
        seconds: s, to prepare and to make the first run.
        device: what it runs on, if not the processor.
    """

    exact: Found
    found: Found
    seconds: float
    device: str | None


class Timed(NamedTuple):
    """How an engine did.

    Attributes:
        engine: its name.
        equal: whether it did the same work as ours.
        why: what was compared; or why it did not run.
        seconds: s, of each round; empty if it was not timed.
        compile_seconds: s, spent once.
        device: what it ran on, if not the processor.
        missing: it is not installed, which is no fault.
    """

    engine: str
    equal: bool
    why: str
    seconds: list[float]
    compile_seconds: float
    device: str | None
    missing: bool


def race(
    modules: dict[str, str],
    workload: Workload,
    cores: list[int],
    rounds: int,
    tell: Callable[[str], None] = print,
    platform: str = "cpu",
) -> list[Timed]:
    """Run the engines against each other on these cores.

    Args:
        modules: by engine, the module that runs it; ours must be among them.
        workload: what they do.
        cores: numbers of the processor's cores, all that an engine may use.
        rounds: runs of each.
        tell: is told what is under way.
        platform: on which engines that use JAX run.
    """
    spawned = multiprocessing.get_context("spawn")
    processes, pipes, replies = {}, {}, {}
    limit = LIMIT if platform == "gpu" else None
    try:
        for engine, module in modules.items():  # one after another: a build would disturb a run
            tell(f"{engine}: preparing")
            pipes[engine], far = spawned.Pipe()
            processes[engine] = spawned.Process(
                target=_serve, args=(far, module, workload, cores, platform), daemon=True
            )
            processes[engine].start()
            far.close()
            replies[engine] = _receive(pipes[engine], limit)
        ready = [engine for engine, (state, _) in replies.items() if state == READY]
        reference = replies[OURS if OURS in ready else ready[0]][1] if ready else None
        judged = {engine: _judge(reference, *reply) for engine, reply in replies.items()}
        running = [engine for engine, (equal, _) in judged.items() if equal]
        seconds = {engine: [] for engine in modules}
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}: {', '.join(running)}")
            for engine in running:
                pipes[engine].send(True)
                reply, value = _receive(pipes[engine], limit)
                if reply == READY:
                    seconds[engine].append(value)
                else:
                    judged[engine], seconds[engine] = (False, f"broke off in round {number + 1}: {value}"), []
            running = [engine for engine in running if judged[engine][0]]
    finally:
        for engine, process in processes.items():
            pipes[engine].close()  # which ends it, if it waits
            process.join(timeout=2)
            process.kill()  # one that hangs in a driver does not hear anything else
    return [_timed(engine, *judged[engine], *replies[engine], seconds[engine]) for engine in modules]


def _judge(ours: Prepared, state: str, reply: Any) -> tuple[bool, str]:
    """Whether an engine did the same work, and a sentence about it."""
    if state != READY:
        return False, reply
    exact, noisy = compare_exact(ours.exact, reply.exact), compare(ours.found, reply.found)
    return exact.equal and noisy.equal, f"{noisy.what}; {exact.what}"


def _timed(engine: str, equal: bool, why: str, state: str, reply: Any, seconds: list[float]) -> Timed:
    once = max(reply.seconds - statistics.median(seconds), 0.0) if seconds else 0.0
    device = reply.device if state == READY else None
    return Timed(engine, equal, why, seconds, once, device, state == MISSING)


def _receive(pipe, limit: float | None) -> tuple[str, Any]:
    try:
        return pipe.recv() if pipe.poll(limit) else (FAILED, f"no answer within {limit:.0f} s")
    except EOFError:
        return FAILED, "its process ended without a word"


def _serve(pipe, module: str, workload: Workload, cores: list[int], platform: str) -> None:
    """The process of one engine: prepares, tells what it found, then makes a run whenever it is asked."""
    # Before the engine's libraries are loaded: they count cores and start their threads when they are.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    threads = str(len(cores))
    os.environ |= {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    os.environ |= SHARING
    try:
        import jax

        jax.config.update("jax_platforms", PLATFORMS[platform])
        jax.config.update("jax_num_cpu_devices", len(cores))
        engine = importlib.import_module(module)
        if reason := engine.available():
            pipe.send((MISSING, reason))
            return
        exact = engine.prepare(without_noise(workload), len(cores))()
        begin = time.perf_counter()
        run = engine.prepare(workload, len(cores))
        found = run()
        device = getattr(engine, "device", lambda: None)()
        pipe.send((READY, Prepared(exact, found, time.perf_counter() - begin, device)))
        while pipe.recv():
            begin = time.perf_counter()
            found = run()
            pipe.send((READY, found.get("seconds", time.perf_counter() - begin)))
    except (EOFError, KeyboardInterrupt):
        return  # the race is over
    except Exception:
        pipe.send((FAILED, traceback.format_exc()))
