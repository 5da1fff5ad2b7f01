"""The command `habenula fit`: the example, a file of one's own, and errors in one line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from habenula.circuit.behaviour import choices, effort_tasks
from habenula.circuit.simulation.decisions import draw_preferences
from habenula.circuit.study.commands import cli, fit_choices
from habenula.circuit.study.runtime import jax_setup


@pytest.fixture
def habenula(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "start_jax", lambda: 2)
    return lambda *args: CliRunner().invoke(cli.app, ["fit", *args])


def test_a_named_file_that_is_not_there_is_refused(habenula, tmp_path):
    result = habenula("choices.csv", "--json", "fit.json")
    assert result.exit_code == 2
    assert "choices.csv" in result.stderr
    assert not (tmp_path / "fit.json").exists()


def test_the_example_is_fitted_where_no_file_is_named(habenula, tmp_path):
    result = habenula("--json", "fit.json", "--out", "fit.png")
    assert result.exit_code == 0, result.stderr
    data = json.loads((tmp_path / "fit.json").read_text())
    assert data["subjects"] == 96
    assert data["trials"] == 96 * 64
    assert -0.5 < data["loglik_per_trial"] < 0
    assert len(data["cells"]) == 16
    for cell in data["cells"]:
        assert set(cell) == {"effort", "reward", "observed", "predicted"}
        assert abs(cell["observed"] - cell["predicted"]) < 6 * np.sqrt(0.25 / 96)
    for name in ("bias", "reward", "effort"):
        assert data["population"][name]["low"] < data["population"][name]["mean"] < data["population"][name]["high"]
        assert data["identifiable"][name]["identifiable"] is True
        assert len(data["estimates"]["shrunk"][name]["value"]) == 96
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    assert "the example of the package" in result.stdout
    assert "Offers accepted" in result.stdout


@pytest.mark.slow
def test_a_weight_that_cannot_be_seen_is_null(habenula, tmp_path):
    made = effort_tasks.run_task(effort_tasks.staircases(), draw_preferences(30, 1), seed=1)
    made.reward[:] = 2.0
    choices.write_choices(tmp_path / "own.csv.gz", made)
    (tmp_path / "scores.csv").write_text("subject,shaps\n" + "".join(f"{i + 1},{i % 7}\n" for i in range(30)))
    result = habenula("own.csv.gz", "--scores", "scores.csv", "--json", "fit.json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads((tmp_path / "fit.json").read_text())
    assert data["population"]["reward"] == {"mean": None, "sd": None, "low": None, "high": None}
    assert data["identifiable"]["reward"]["reason"] == "reward is the same in every offer"
    assert data["identifiable"]["reward"]["error"] is None
    assert {each["preference"] for each in data["relations"]} == {"bias", "effort"}
    assert "not seen: reward is the same in every offer" in result.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("subject,trial,effort,reward,choice\na,1,1,1,3\n", "own.csv, row 2, column choice: '3' must be 1"),
        ("subject,trial,effort,reward,choice\na,1,1,1,1\n", "1 subject: a population has at least 2."),
    ],
)
def test_an_error_is_one_line(habenula, tmp_path, text, says):
    if text:
        (tmp_path / "own.csv").write_text(text)
    result = habenula("own.csv", "--quiet")
    assert result.exit_code == 2
    assert result.stderr.startswith("habenula: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_cells_are_of_first_trials_where_there_are_any():
    made = effort_tasks.run_task(effort_tasks.staircases(), draw_preferences(20, 1), seed=1)
    seen = fit_choices.acceptance_by_cell(made, np.full_like(made.effort, 0.5))
    assert [cell.offers for cell in seen] == [20] * 16
    assert {cell.predicted for cell in seen} == {0.5}


@pytest.mark.slow
def test_all_that_is_said_fits_a_narrow_terminal():
    made = effort_tasks.run_task(effort_tasks.staircases(), draw_preferences(30, 1), seed=1)
    fit = fit_choices.fit_choices(made)
    relations = fit_choices.relate_scores(fit, {"anhedonia": np.arange(30.0), "same_for_all": np.ones(30)})
    assert {each.score for each in relations} == {"anhedonia"}
    found = fit_choices.ChoiceReport(
        "own.csv", made, fit, fit_choices.acceptance_by_cell(made, fit.predicted), relations
    )
    said = {}
    fit_choices.print_fit(found, lambda title, lines: said.update({title: [line.plain for line in lines]}), 80)
    assert list(said) == [f"30 subjects, {made.trials} choices: own.csv", "Offers accepted", "Preferences and scores"]
    assert max(len(line) for lines in said.values() for line in lines) <= 80
    together = " ".join(said["Preferences and scores"])
    assert "would be nearer to 0, about by their reliability" in together
    for each in relations:
        assert f"{each.slope:+.3f}  {each.low:+.3f} to {each.high:+.3f}" in together
