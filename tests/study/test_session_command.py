"""What `habenula session` says of a session is what the session holds, and it says it in one table."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from habenula.circuit.behaviour.conditioning import pavlovian
from habenula.circuit.model.lhb_population import make_population_plan
from habenula.circuit.simulation.conditions import depressed, draw, healthy
from habenula.circuit.simulation.session import session
from habenula.circuit.study.commands import cli
from habenula.circuit.study.commands import session as session_command
from habenula.circuit.study.commands.session import CueSchedule, EventResponse
from habenula.circuit.study.runtime import jax_setup

SUBJECTS, TRIALS, SEED = 6, 18, 2
TASK = CueSchedule((1.0, 0.5, 0.0), (0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(told):
    return session_command.run_session(SUBJECTS, TRIALS, TASK, SEED, report=lambda *words: told.append(words))


@pytest.mark.slow
def test_answers_are_those_of_the_session_trial_by_trial(found):
    for name, condition in (("healthy", healthy()), ("depressed", depressed())):
        what = pavlovian(list(TASK.reward), puff=list(TASK.puff))
        seen = session(
            draw(condition, SUBJECTS, SEED),
            what,
            TRIALS,
            plan=make_population_plan(session_command.NEURONS_PER_SUBJECT),
        )
        cue, reward = np.asarray(seen.trials.cue), np.asarray(seen.trials.reward)
        each = []
        for i in range(SUBJECTS):
            omitted = [t for t in range(TRIALS // 2, TRIALS) if cue[i, t] == 1 and reward[i, t] == 0]
            if omitted:
                each.append(np.mean([seen.outcome["rate"][i, t] - seen.before["rate"][i, t] for t in omitted]))
        answer = {(one.cue, one.event): one for one in found.groups[name].seen}[2, "nothing"]
        assert 2 <= len(each) <= SUBJECTS
        half = 1.96 * np.std(each, ddof=1) / np.sqrt(len(each))
        np.testing.assert_allclose(answer.rate, (np.mean(each), np.mean(each) - half, np.mean(each) + half), rtol=1e-3)
        np.testing.assert_allclose(
            [worth.mean for worth in found.groups[name].worth], seen.learnt.last.cues.mean(axis=1), rtol=1e-5
        )


@pytest.mark.slow
def test_both_kinds_live_the_same_trials_and_learn_them(found):
    healthy, depressed = found.groups.values()
    assert [(one.cue, one.event, one.trials) for one in healthy.seen] == [
        (one.cue, one.event, one.trials) for one in depressed.seen
    ]
    assert sum(one.trials for one in healthy.seen if one.event == "cue") == SUBJECTS * TRIALS // 2
    for group in found.groups.values():
        worth = [each.mean for each in group.worth]
        assert worth[0] > worth[1] > worth[2]
        assert not group.lost
    events = {(one.cue, one.event) for one in healthy.seen}
    assert {(1, "reward"), (2, "reward"), (2, "nothing"), (3, "puff")} <= events
    assert (1, "nothing") not in events


@pytest.mark.slow
def test_progress_counts_trials(told, found):
    for name in found.groups:
        assert (f"trials of the {name}", TRIALS, TRIALS) in told


@pytest.mark.slow
def test_the_table_fits_its_line(found):
    wide = [str(line) for line in session_command.session_table(found, 120)]
    assert max(map(len, wide)) <= 120
    assert " healthy " in wide[0]
    assert " depressed " in wide[0]
    assert any(line.startswith("cue 3: puff 100%") for line in wide)
    assert any(line.startswith("  nothing after cue 2") for line in wide)
    narrow = [str(line) for line in session_command.session_table(found, 76)]
    assert max(map(len, narrow)) <= 76
    assert sum("before the cue" in line for line in narrow) == 2, "one kind below the other"


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_the_numbers(found, monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax_setup, "start_jax", lambda: 2)
    monkeypatch.setattr(session_command, "run_session", lambda *words: asked.append(words) or found)
    words = "session --subjects 6 --trials 18 --reward 1,0.5,0 --puff 0,0,1 --flip 4 --seed 2 --quiet --json s.json"
    result = CliRunner().invoke(cli.app, words.split())
    assert result.exit_code == 0, result.stderr
    assert asked == [(6, 18, CueSchedule((1.0, 0.5, 0.0), (0.0, 0.0, 1.0), 4), 2, 2, None)]
    assert "A session of 18 trials, 6 subjects of each kind" in result.stdout
    data = json.loads((tmp_path / "s.json").read_text())
    assert set(data) == {"subjects", "trials", "seed", "task", "groups"}
    for group in data["groups"].values():
        assert set(group) == {"events", "worth", "lost"}
        assert set(group["events"][0]) == {"cue", "event", "trials", "habenula", "rate", "error"}
        assert group["events"][0]["error"] == {"mean": None, "low": None, "high": None}, "no error before a cue"
        assert set(group["worth"][0]) == {"mean", "low", "high"}


@pytest.mark.slow
def test_cues_that_changed_places_are_named_by_what_they_pay_now(found):
    turned = found._replace(task=TASK._replace(flip=6))
    lines = [str(line) for line in session_command.session_table(turned, 120)]
    assert any(line.startswith("cue 1: puff 100%") for line in lines)
    assert any("changed places at trial 6" in line for line in lines)


@pytest.mark.slow
def test_who_is_not_finite_is_named(found):
    lost = found._replace(groups={name: group._replace(lost=(3, 5)) for name, group in found.groups.items()})
    assert "2 healthy subjects became non-finite and are left out: 3, 5." in "\n".join(
        map(str, session_command.session_table(lost, 120))
    )


def test_one_subject_has_no_interval():
    assert EventResponse.of(np.array([np.nan, 2.0]))[0] == 2.0
    assert np.isnan(EventResponse.of(np.array([np.nan, 2.0]))[1:]).all()
    assert np.isnan(EventResponse.of(np.array([np.nan]))).all()
