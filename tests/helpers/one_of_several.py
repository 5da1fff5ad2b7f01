"""What a process of several computes; as a program, `one_of_several.py ADDRESS COUNT NUMBER FILE`, it is one of them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import habenula as hb
from habenula.kernels import Mean, Plan, integrate, multiprocess

SUBJECTS, DAYS = 48, 2.0
UNSTRESSED = hb.Condition("unstressed", days=int(DAYS))  # of the length of the course, so that they share a program
PLAN = Plan("tiled", tile=16)


def lived(mine: range) -> hb.Cohort:
    """These subjects after two courses."""
    cohort = hb.draw(UNSTRESSED, len(mine), seed=3, first=mine.start, plan=PLAN)
    return hb.course(cohort, (), DAYS, start=DAYS, save_every=24, record=(), plan=PLAN).cohort


def squares(gain: jax.Array, mine: range) -> jax.Array:
    """A loss that is a sum over subjects, of the mean path of noisy lanes with a common gain."""
    found = integrate(
        lambda state, shared, own, inputs, z, j: (state + 0.1 * (jnp.tanh(shared * state) - own + z[0]), None),
        jnp.zeros(len(mine)),
        steps=12,
        subjects=jnp.arange(mine.start, mine.stop),
        shared=gain,
        per_subject=jnp.arange(mine.start, mine.stop).astype(jnp.float32) / SUBJECTS,
        channels=1,
        statistics={"mean": (Mean(), lambda state, out: state)},
        plan=PLAN,
    )
    return (found.statistics["mean"] ** 2).sum()


def main(address: str, count: int, number: int, file: str) -> None:
    """Meet the others, live a share, join what was found, and write it."""
    here = multiprocess.initialise_processes(address, count, number)
    uneven = np.full(number + 2, number)  # of another size in every process
    mine = multiprocess.shard_subjects(SUBJECTS)
    cohort = lived(mine)
    found = {"subject": cohort.subject, **vars(cohort.state), "clearance": cohort.parameters.clearance}
    joined = multiprocess.gather_over_processes(found)
    loss, slope = multiprocess.sum_over_processes(jax.value_and_grad(squares)(jnp.float32(0.7), mine))
    more = {
        "uneven": multiprocess.gather_over_processes(uneven),
        "columns": multiprocess.gather_over_processes(uneven[None], axis=-1),
    }
    devices = [jax.device_count(), jax.local_device_count()]
    np.savez(file, loss=loss, slope=slope, place=np.array([*here]), devices=np.array(devices), **more, **joined)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
