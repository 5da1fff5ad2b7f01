"""A survey in pieces is the course of all at once: bit for bit in its records, to rounding in its statistics."""

import importlib
import os
import subprocess
import sys

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.model.interventions import Bupropion, Stress
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course
from habenula.circuit.simulation.streamed_course import divide_subjects, iterate_chunks, slice_arm, streamed_course
from habenula.circuit.study.runtime import store
from habenula.kernels import Plan

PLAN = Plan("tiled", tile=16, devices=2)
SUBJECTS, CHUNK, DAYS = 72, 32, 2.0  # three pieces of 32, of which the last has 8
CONDITION = depressed(stress_days=2.0, after=1.0)
RECORD = ("vta_output", "mood")
ARM = (Bupropion(mg_per_day=jnp.linspace(100.0, 400.0, SUBJECTS)),)  # one dose for each
OPTIONS = {"seed": 3, "save_every": 12, "record": RECORD, "plan": PLAN}


@pytest.fixture(scope="module")
def whole():
    return course(draw(CONDITION, SUBJECTS, 3, plan=PLAN), ARM, DAYS, save_every=12, record=RECORD, plan=PLAN)


@pytest.mark.parametrize(
    ("subjects", "most", "sizes"),
    [
        (72, 32, [32, 32, 8]),
        (32, 32, [32]),
        (5, 32, [5]),
        (33, 32, [32, 1]),
        (100, 40, [32, 32, 32, 4]),
        (64, 1, [32, 32]),
    ],
)
def test_pieces_are_of_whole_tiles_and_of_one_size(subjects, most, sizes):
    parts = divide_subjects(subjects, most, PLAN)
    assert [len(part) for part in parts] == sizes
    assert [place for part in parts for place in part] == list(range(subjects))


def test_records_in_pieces_are_those_of_the_whole(whole):
    parts = divide_subjects(SUBJECTS, CHUNK, PLAN)
    pieces = list(iterate_chunks(CONDITION, ARM, DAYS, parts, 3, 12, RECORD, plan=PLAN))
    for name in RECORD:
        np.testing.assert_array_equal(np.concatenate([piece.record[name] for piece in pieces]), whole[name])
    np.testing.assert_array_equal(pieces[0].day, whole.day)


def test_statistics_in_pieces_are_those_of_the_whole(whole):
    told = []
    found = streamed_course(
        CONDITION,
        ARM,
        DAYS,
        subjects=SUBJECTS,
        chunk=CHUNK,
        quantiles=True,
        progress=lambda done, total: told.append((done, total)),
        **OPTIONS,
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found.failures == ()
    for name in RECORD:
        exact = np.asarray(whole[name], np.float64)
        assert found[name].count == SUBJECTS
        np.testing.assert_allclose(found[name].mean, exact.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found[name].sd, exact.std(axis=0, ddof=1), rtol=1e-9)
        median = np.quantile(exact, 0.25, axis=0, method="nearest")
        np.testing.assert_allclose(found.quantiles[name].at(0.25), median, rtol=1 / 256)


def test_a_store_goes_on_where_it_was_stopped(whole, tmp_path):
    options = OPTIONS | {"subjects": SUBJECTS, "chunk": CHUNK}

    class Stopped(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        store.write_store(tmp_path / "kept", CONDITION, ARM, DAYS, progress=stop, **options)
    kept = store.read_store(tmp_path / "kept")
    assert [part.start for part in kept.missing] == [64]
    with pytest.raises(ValueError, match="1 of 3 pieces are missing"):
        kept["mood"]
    before = [kept.file(part).stat().st_mtime_ns for part in kept.parts[:2]]
    told = []
    again = store.write_store(
        tmp_path / "kept", CONDITION, ARM, DAYS, progress=lambda *now: told.append(now), **options
    )
    assert told == [(3, 3)], "what is finished is not lived again"
    assert [again.file(part).stat().st_mtime_ns for part in again.parts[:2]] == before
    assert len(again) == SUBJECTS
    for name in RECORD:
        np.testing.assert_array_equal(again[name], whole[name])
    with pytest.raises(ValueError, match="'drive' was not recorded; choose from vta_output, mood"):
        again["drive"]
    with pytest.raises(ValueError, match=r"another run, with seed 3 and not 4"):
        store.write_store(tmp_path / "kept", CONDITION, ARM, DAYS, **options | {"seed": 4})
    with pytest.raises(ValueError, match="another run, with arm"):
        store.write_store(tmp_path / "kept", CONDITION, (), DAYS, **options)
    with pytest.raises(ValueError, match=r"holds no survey\.json"):
        store.read_store(tmp_path)


def test_a_kill_leaves_no_half_written_piece(tmp_path):
    """A process that dies while it writes a piece leaves those before it, and a name that nobody reads."""
    script = (
        "import os, sys; from pathlib import Path; from habenula.circuit.study.runtime.files import replace_atomically\n"
        f"path = Path({os.fspath(tmp_path)!r}) / '000000000.npz'\n"
        "with replace_atomically(path) as partial:\n    partial.write_bytes(b'half'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert not (tmp_path / "000000000.npz").exists()


def test_everyone_has_their_own_arm_in_every_piece():
    (drug,) = slice_arm(ARM, range(64, 72), CHUNK, SUBJECTS)
    assert isinstance(drug, Bupropion)
    dose = np.asarray(drug.mg_per_day)
    np.testing.assert_array_equal(dose[:8], np.asarray(ARM[0].mg_per_day)[64:])
    assert set(dose[8:]) == {np.float32(400.0)}, "those who fill up are like the last"
    same = (Bupropion(300.0),)
    assert eqx.tree_equal(slice_arm(same, range(64, 72), CHUNK, SUBJECTS), same), "what all share stays as it is"


@pytest.mark.slow
def test_subjects_who_fail_are_left_out_and_named(monkeypatch):
    module = importlib.import_module(
        "habenula.circuit.simulation.streamed_course"
    )  # the package offers the function of this name
    right = module.draw

    def spoilt(condition, subjects, seed, *, first, **options):
        cohort = right(condition, subjects, seed, first=first, **options)
        if first:
            return cohort
        rate = jnp.full(subjects, cohort.parameters.plasticity.kir_rate).at[5].set(3e38)
        return eqx.tree_at(lambda c: c.parameters.plasticity.kir_rate, cohort, rate)

    monkeypatch.setattr(module, "draw", spoilt)
    with pytest.warns(RuntimeWarning, match="1 of 32 subjects became non-finite; subject 5"):
        found = streamed_course(CONDITION, Stress(severity=3.0), DAYS, subjects=SUBJECTS, chunk=CHUNK, **OPTIONS)
    assert [failure.subject for failure in found.failures] == [5]
    assert found["mood"].count == SUBJECTS - 1
    assert np.isfinite(found["mood"].mean).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subjects": 0}, "subjects=0"),
        ({"record": ()}, "leaves nothing to survey"),
        ({"chunk": 0}, "at most 0"),
        ({"subjects": 64}, "Bupropion.mg_per_day has shape"),
    ],
)
def test_what_is_impossible_is_said_before_anything_runs(change, says):
    with pytest.raises(ValueError, match=says):
        streamed_course(CONDITION, ARM, DAYS, **{"subjects": SUBJECTS, "chunk": CHUNK} | OPTIONS | change)
