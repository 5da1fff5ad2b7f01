"""Every calibration script runs: short on a copy of the table, and in full (slow) to the rows that are committed."""

import shutil

import jax
import numpy as np
import pytest

from habenula.circuit.calibration import (
    downstream,
    effort,
    lateral_habenula,
    pharmacology,
    placebo,
    slow_clock,
    transfer_function,
)
from habenula.circuit.data.constants import CONSTANTS_FILE, read_constants


@pytest.fixture(autouse=True)
def _promotion_as_users_have_it():
    """Optimisers from elsewhere mix dtypes, which the strict JAX of these tests would refuse."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def table(tmp_path):
    """A copy of the table of constants."""
    return shutil.copy(CONSTANTS_FILE, tmp_path / "constants.csv")


def changed_values(table):
    """Value before and after by name, of the rows that a script has written."""
    before = {row.name: row for row in read_constants(CONSTANTS_FILE)}
    return {row.name: (before[row.name].value, row.value) for row in read_constants(table) if row != before[row.name]}


SHORT = {
    lateral_habenula: "--depression --neurons 8 --seconds 0.1 --paths 1 --check-seconds 0.2",
    downstream: "--points 2",
    pharmacology: "",
    placebo: "",
    slow_clock: "--evaluations 1 --subjects 4 --check-subjects 4",
}


@pytest.mark.parametrize("script", SHORT, ids=lambda script: script.__name__.rpartition(".")[2])
def test_a_short_run_writes_finite_rows_to_the_copy_alone(script, table, capsys):
    committed = CONSTANTS_FILE.read_bytes()
    script.main(["--table", str(table), *SHORT[script].split()])
    assert CONSTANTS_FILE.read_bytes() == committed
    names = [row.name for row in read_constants(table)]
    assert names == [row.name for row in read_constants(CONSTANTS_FILE)], "no row is new, none is gone"
    assert all(np.isfinite(value) for _, value in changed_values(table).values())
    assert capsys.readouterr().out


def test_the_search_for_a_neuron_stays_within_its_bounds(table, capsys):
    words = "--generations 1 --neurons 4 --seconds 0.1 --paths 1 --check-seconds 0.1"
    lateral_habenula.main(["--table", str(table), *words.split()])
    assert "generation   1  loss" in capsys.readouterr().out
    values = {row.name: row.value for row in read_constants(table)}
    for name, (low, high, _) in lateral_habenula.NEURON_BOUNDS.items():
        assert low <= values[f"lateral_habenula.{name}"] <= high


def test_constants_per_candidate_give_what_each_gives_alone():
    """Constants of one lane each, as a search has them, against one candidate at a time."""
    values = lateral_habenula._table_values()
    other = values * np.where(np.arange(len(values)) == lateral_habenula.PARAMETER_NAMES.index("t_conductance"), 1.1, 1)
    plan = lateral_habenula.Plan(tile=8)
    simulate = lambda candidates: lateral_habenula.simulate_candidates(candidates, 8, 0.2, plan)
    together = simulate(np.stack([values, other], axis=1))
    for i, candidate in enumerate((values, other)):
        alone = simulate(candidate[:, None])
        for name, modes in alone.items():
            np.testing.assert_allclose(together[name][:, i], modes[:, 0], rtol=2e-3, atol=1e-3, equal_nan=True)


def test_a_short_distillation_is_a_transfer_function(tmp_path, capsys):
    out, samples = tmp_path / "network.npz", tmp_path / "labels.npz"
    words = ["--points", "16", "--seconds", "0.2", "--epochs", "5", "--out", str(out), "--samples", str(samples)]
    transfer_function.main(words)
    with np.load(out) as file, np.load(transfer_function.TRANSFER_FILE) as committed:
        assert set(file) == set(committed)
        assert all(file[name].shape == committed[name].shape for name in file)
        assert str(file["fingerprint"]) == str(committed["fingerprint"]), "the constants are those of the table"
    assert "R2 of log output" in capsys.readouterr().out


def test_training_lowers_the_loss():
    x = np.random.default_rng(0).normal(size=(6, 64))
    y = np.stack([np.tanh(x[0]), x[1] * x[2], x[3], x[4]])
    error = []
    for epochs in (1, 300):
        weights, biases = transfer_function.train_network(
            *(transfer_function.jnp.asarray(value, "float32") for value in (x, y)), epochs=epochs
        )
        arrays = [[transfer_function.jnp.asarray(value) for value in values] for values in (weights, biases)]
        fitted = transfer_function.apply_network(*arrays, transfer_function.jnp.asarray(x, "float32"))
        error.append(float(np.mean((np.asarray(fitted) - y) ** 2)))
    assert error[1] < 0.3 * error[0]


@pytest.mark.parametrize(
    ("script", "words", "source"),
    [(effort, [], "Mehrhof & Nord 2024"), (pharmacology, ["--data"], "Kamp 2020")],
    ids=["effort", "pharmacology"],
)
def test_missing_data_are_named(script, words, source, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"lacks .*\.csv.*: it must hold .* of {source}"):
        script.main([*words, str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words", "tolerance"),
    [
        (downstream, "", 0.02),  # of the pause on a grid: the same point
        (placebo, "", 0.02),
        (pharmacology, "", 1e-3),
        (lateral_habenula, "--depression", 1e-4),  # the same point of the grid
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2] or None,
)
def test_a_full_run_gives_the_committed_rows(script, words, tolerance, table):
    script.main(["--table", str(table), *words.split()])
    for name, (committed, fitted) in changed_values(table).items():
        assert fitted == pytest.approx(committed, rel=tolerance), name


@pytest.mark.slow
def test_published_plasma_curves_give_the_committed_disposition(table, shared_data):
    pharmacology.main(["--table", str(table), "--data", str(shared_data / "ketamine_pk")])
    for name, (committed, fitted) in changed_values(table).items():
        assert fitted == pytest.approx(committed, rel=1e-3), name
