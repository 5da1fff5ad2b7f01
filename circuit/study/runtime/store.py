"""Records of a large cohort on disk, piece by piece: what is finished is kept, whatever happens, and a run goes on there.

A folder holds `survey.json`, which says what is in it, and a file for each piece: `000000000.npz` from subject 0 on. A file
is there whole or not at all.
"""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ....kernels import Plan
from ...model.interventions import Arm, Intervention, as_arm
from ...model.parameters import Parameters, typical
from ...simulation.conditions import Condition
from ...simulation.course import DEFAULT_PLAN, DEFAULT_RECORD
from ...simulation.planner import chunk_length
from ...simulation.streamed_course import CourseChunk, divide_subjects, iterate_chunks, split_range
from .files import replace_atomically, write_json

METADATA_FILE = "survey.json"


@dataclasses.dataclass(frozen=True)
class CourseStore:
    """Records on disk.

    Attributes:
        folder: where.
        told: what it says of itself; see `write_store`.
    """

    folder: Path
    told: dict

    def __len__(self) -> int:
        return self.told["subjects"]

    @property
    def parts(self) -> tuple[range, ...]:
        """Places of subjects, piece by piece."""
        return split_range(self.told["subjects"], self.told["piece"])

    @property
    def missing(self) -> tuple[range, ...]:
        """The pieces that are not there yet."""
        return tuple(part for part in self.parts if not self.file(part).exists())

    def file(self, part: range) -> Path:
        """Where a piece is kept."""
        return self.folder / f"{part.start:09d}.npz"

    def pieces(self) -> Iterator[CourseChunk]:
        """Those that are there, one after the other. Failures are in the file as rows that are not finite."""
        for part in self.parts:
            if self.file(part).exists():
                with np.load(self.file(part)) as file:
                    yield CourseChunk(part, file["day"], {name: file[name] for name in self.told["record"]}, ())

    def __getitem__(self, name: str) -> np.ndarray:
        """All records of a quantity, (subject, saved), in memory.

        Raises:
            ValueError: it was not recorded, or pieces are missing.
        """
        if name not in self.told["record"]:
            raise ValueError(f"{name!r} was not recorded; choose from {', '.join(self.told['record'])}.")
        if missing := self.missing:
            raise ValueError(f"{len(missing)} of {len(self.parts)} pieces are missing: call write again to go on.")
        return np.concatenate([piece.record[name] for piece in self.pieces()])


def write_store(
    folder: Path | str,
    condition: Condition,
    arm: Arm | Intervention | Sequence = (),
    days: float = 84.0,
    *,
    subjects: int,
    seed: int = 0,
    save_every: int = 4,
    record: Sequence[str] = DEFAULT_RECORD,
    chunk: int | None = None,
    around: Parameters | None = None,
    plan: Plan = DEFAULT_PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> CourseStore:
    """Simulate `subjects` as `streamed_course` does, and keep every record in `folder`, or go on there.

    Args:
        folder: is made if it is not there.
        condition: of whom; this, and all up to `save_every`, as in `streamed_course`.
        arm: what is done to them.
        days: how long.
        subjects: how many.
        seed: names traits and noise.
        save_every: h between records.
        record: names from `course.COURSE_QUANTITIES`.
        chunk: most subjects in a piece; a folder that is gone on with keeps its own.
        around: the subject around whom the others are drawn.
        plan: how to use the hardware.
        progress: called with the numbers of pieces done and in all.

    Raises:
        ValueError: the folder holds another run: which word of it differs is said.
    """
    folder, arm = Path(folder), as_arm(arm)
    if not record:
        raise ValueError(f"{record=} leaves nothing to keep; name some of COURSE_QUANTITIES.")
    most = chunk_length(plan, days, len(record), save_every) if chunk is None else chunk
    told = {
        "subjects": subjects,
        "seed": seed,
        "condition": _fingerprint(condition),
        "arm": _fingerprint(arm),
        "parameters": _fingerprint(typical() if around is None else around),
        "days": days,
        "save_every": save_every,
        "record": list(record),
        "precision": str(np.dtype(jax.numpy.result_type(float))),
    }
    wrote = {
        "piece": len(divide_subjects(subjects, most, plan)[0]),
        "jax": version("jax"),
        "machine": platform.machine(),
    }
    store = _open_or_create(folder, told, wrote)
    parts, missing = store.parts, store.missing
    done = len(parts) - len(missing)
    for piece in iterate_chunks(condition, arm, days, parts, seed, save_every, tuple(record), 0, around, plan, missing):
        arrays: Any = {"day": piece.day} | piece.record  # names that savez has no argument of
        with replace_atomically(store.file(piece.subjects)) as partial:
            np.savez(partial, **arrays)
        done += 1
        if progress is not None:
            progress(done, len(parts))
    return store


def read_store(folder: Path | str) -> CourseStore:
    """The records in `folder`, finished or not.

    Raises:
        ValueError: there are none.
    """
    folder = Path(folder)
    if not (folder / METADATA_FILE).exists():
        raise ValueError(f"{folder} holds no {METADATA_FILE}: it is no folder that study.store.write has made.")
    return CourseStore(folder, json.loads((folder / METADATA_FILE).read_text(encoding="utf-8")))


def _open_or_create(folder: Path, told: dict, wrote: dict) -> CourseStore:
    """The store in `folder`, new or the one that is there, if it is of the same run."""
    if not (folder / METADATA_FILE).exists():
        write_json(folder / METADATA_FILE, told | wrote)
        return read_store(folder)
    store = read_store(folder)
    for name, value in told.items():
        if store.told[name] != value:
            raise ValueError(
                f"{folder} holds another run, with {name} {store.told[name]!r} and not {value!r}: "
                "ask for that one, or give another folder."
            )
    return store


def _fingerprint(tree: object) -> str:
    """A fingerprint of a tree: its structure and every number in it."""
    tree = (tree.name, tree.shifts, tree.history, tree.days) if isinstance(tree, Condition) else tree
    leaves, structure = jax.tree.flatten(tree)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        digest.update(leaf.encode() if isinstance(leaf, str) else np.asarray(leaf, np.float64).tobytes())
    return digest.hexdigest()[:16]
