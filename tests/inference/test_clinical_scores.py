"""Clinical scores: the assumed link, the reader with its errors, and the time course of a response."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check

from habenula.circuit.calibration import placebo as script
from habenula.circuit.inference import clinical_scores
from habenula.circuit.model.interventions import SSRI, Placebo
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course

HEADER = "subject,arm,week,score,baseline\n"
VISITS = (1.0, 2.0, 4.0)


@pytest.fixture
def file(tmp_path):
    def written(text, name="scores.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def test_scores_are_read_with_what_is_missing(file):
    lines = "b,drug,1,12,20\nb,drug,4.1,8,20\na,placebo,2,NA,\na,placebo,1,18,\n"
    scores = clinical_scores.read_scores(file(HEADER + lines), visits=VISITS)
    assert (scores.subject, scores.arm, scores.week) == (("b", "a"), ("drug", "placebo"), (1.0, 2.0, 4.0))
    np.testing.assert_array_equal(scores.score, [[12, np.nan, 8], [18, np.nan, np.nan]])
    np.testing.assert_array_equal(scores.baseline, [20, np.nan])
    assert scores.of("drug").subject == ("b",)
    with pytest.raises(ValueError, match="nobody was in arm 'sugar'; there are drug, placebo"):
        scores.of("sugar")


def test_columns_of_other_names_and_days_are_read(file):
    path = file("ID,given,t,HAMD\n1,x,7,10\n1,x,27,9\n")
    names = {"subject": "ID", "arm": "given", "day": "t", "score": "HAMD"}
    np.testing.assert_array_equal(
        clinical_scores.read_scores(path, visits=VISITS, columns=names).score, [[10, np.nan, 9]]
    )


def test_visits_may_have_names(file):
    path = file("subject,arm,visit,score\n1,x,B,10\n1,x,A,9\n")
    scores = clinical_scores.read_scores(path, visits={"A": 1, "B": 6})
    np.testing.assert_array_equal(scores.score, [[9, 10]])
    with pytest.raises(ValueError, match="row 2, column visit: no week is given for visit 'B'; there are A"):
        clinical_scores.read_scores(path, visits={"A": 1})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("subject,arm,score\n1,x,1\n", "row 1: columns week or day tell when, and there are neither"),
        ("subject,arm,week,day,score\n1,x,1,7,1\n", "row 1: columns week or day tell when, and there are both"),
        ("subject,week,score\n1,1,1\n", "row 1: no column arm; there are subject, week, score"),
        ("subject,arm,week,score,score\n1,x,1,1,1\n", "row 1: columns score and score could both be score"),
        (HEADER + "1,x,1,ten,20\n", "row 2, column score: 'ten' is no finite number"),
        (HEADER + "1,x,1,-2,20\n", "row 2, column score: '-2' must not be negative"),
        (HEADER + "1,x,0,2,20\n", "row 2, column week: '0' must be above 0"),
        (HEADER + "1,,1,2,20\n", "row 2, column arm: empty"),
        (HEADER + "1,x,1,2\n", "row 2: 4 cells, but 5 columns"),
        (HEADER + "1,x,1,2,20\n1,y,2,2,20\n", "row 3, column arm: 'y' of subject 1, but 'x' in row 2"),
        (HEADER + "1,x,1,2,20\n1,x,2,2,21\n", "row 3, column baseline: '21' of subject 1, but '20' in row 2"),
        (
            HEADER + "1,x,1,2,20\n1,x,1.2,3,20\n",
            "row 3, column week: 1.2 of subject 1 belongs to the visit of week 1, as",
        ),
        (HEADER + "1,x,1,2,so\n", "row 2, column baseline: 'so' is no finite number"),
        (HEADER, "holds no scores"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_row_and_column(file, text, says):
    with pytest.raises(ValueError, match=r"scores\.csv") as refused:
        clinical_scores.read_scores(file(text), visits=VISITS)
    assert says in str(refused.value)


def test_impossible_visits_and_columns_are_refused(file):
    for visits in ((), (0, 1), (1, 1)):
        with pytest.raises(ValueError, match="must be different weeks above 0"):
            clinical_scores.read_scores(file(HEADER), visits=visits)
    with pytest.raises(ValueError, match=r"columns of \['points'\]: choose from subject"):
        clinical_scores.read_scores(file(HEADER), visits=VISITS, columns={"points": "x"})


def test_the_link_and_its_rater():
    scale = clinical_scores.hamd17()
    assert float(clinical_scores.expected_score(1.0, scale)) == pytest.approx(float(scale.healthy))
    mood = np.full(20_000, 0.5)
    scores = clinical_scores.simulate_ratings(mood, scale, seed=1)
    expected, sd = float(clinical_scores.expected_score(0.5, scale)), float(scale.rater) * np.pi / np.sqrt(3)
    assert abs(scores.mean() - expected) < 5 * np.hypot(sd, 0.3) / np.sqrt(len(mood))
    assert abs(scores.std() - np.hypot(sd, np.sqrt(1 / 12))) < 5 * sd / np.sqrt(len(mood))
    assert clinical_scores.simulate_ratings(np.array([-9.0, 9.0]), scale).tolist() == [52, 0]
    assert np.isnan(clinical_scores.simulate_ratings(np.array([np.nan]), scale)).all()


def test_scores_are_observations_of_mood(float64):
    """The likelihood of scores is greatest at the mood that they were made from, and differentiable."""
    scale, true = clinical_scores.hamd17(), np.linspace(0.3, 0.9, 4)
    names = tuple("abcd")
    repeats = 400
    scores = clinical_scores.simulate_ratings(np.tile(true[:, None], (1, repeats)), scale, seed=2)
    made = clinical_scores.ClinicalScores(
        names, ("x",) * 4, tuple(1.0 + i for i in range(repeats)), scores, np.full(4, np.nan)
    )
    seen = made.observed(scale)
    grid = np.linspace(0.2, 1.0, 161)
    of = lambda mood: seen.noise.log_likelihood(seen.value, jnp.broadcast_to(mood[:, None], seen.value.shape)).sum(
        axis=1
    )
    best = grid[np.argmax(jax.vmap(of)(jnp.tile(jnp.asarray(grid)[:, None], (1, 4))), axis=0)]
    information = np.asarray(seen.noise.information(jnp.asarray(true)), float) * repeats
    assert (abs(best - true) < 5 / np.sqrt(information) + 0.0025).all()
    check(lambda mood: of(mood).sum(), jnp.asarray(true + 0.01))
    check(lambda mood: clinical_scores.expected_score(mood, scale).sum(), jnp.asarray(true))
    bad = clinical_scores.ClinicalScores(names[:1], ("x",), (1.0,), np.array([[7.5]]), np.array([20.0]))
    with pytest.raises(ValueError, match=r"subject a, week 1: score 7.5 must be a whole number from 0 to 52"):
        bad.observed(scale)


def test_a_time_course_is_the_share_of_the_final_change_with_its_interval():
    generator, people = np.random.default_rng(3), 400
    shape, held, repeats = np.array([0.25, 0.5, 1.0]), [], 100
    for seed in range(repeats):
        own = -8 + 3 * generator.normal(size=people)
        score = 20 + own[:, None] * shape + 4 * generator.normal(size=(people, 3))
        score[generator.uniform(size=score.shape) < 0.1] = np.nan
        made = clinical_scores.ClinicalScores(
            tuple(map(str, range(people))), ("x",) * people, VISITS, score, np.full(people, 20.0)
        )
        found = clinical_scores.time_course(made, seed)
        held.append((found.low[:2] < shape[:2]) & (shape[:2] < found.high[:2]))
        assert found.share[-1] == 1
        assert found.subjects == (~np.isnan(score[:, -1])).sum()
    assert abs(np.mean(held) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repeats)  # the two visits are not independent
    with pytest.raises(ValueError, match="0 people have a baseline and a score in week 4; 2 are needed"):
        clinical_scores.time_course(
            clinical_scores.ClinicalScores(("a",), ("x",), VISITS, np.full((1, 3), np.nan), np.full(1, np.nan))
        )


def test_a_visit_takes_off_as_much_as_it_did_in_trials():
    """The table holds what the script finds: on average over two weeks, as one more visit counts alike in all."""
    assert script.simulate_extra_visit(3) == pytest.approx(np.mean(list(script.EXTRA_VISIT_EFFECT.values())), rel=0.01)


@pytest.mark.nightly
def test_the_response_to_an_ssri_beside_that_of_patients(shared_data):
    """Patients of Goldstein 2004, whose other arm mixes an SSRI and an SNRI; the model's mood as a score, by assumption.

    Reported, not fitted. The model is within the patients' interval at one, two and four weeks, with and without the drug,
    because what visits make one expect builds over weeks: an expectation that is there at once is too fast. What is
    compared is the share of the change. Its size is greater in the model.
    """
    names = {"subject": "PATIENT", "arm": "THERAPY", "visit": "VISIT", "score": "HAMDTL17", "baseline": "BASVAL"}
    weeks = (1, 2, 4, 6)
    folder = shared_data / "antidepressant_hamd17_rct"
    if not folder.is_dir():
        pytest.skip(f"no published scores at {folder}")
    patients = clinical_scores.read_scores(
        folder / "hamd17.csv", visits=dict(zip("4567", weeks, strict=True)), columns=names
    )
    assert len(patients.subject) == 172
    assert (~np.isnan(patients.score)).sum() == 608
    people, scale = draw(depressed(), 256, seed=1), clinical_scores.hamd17()
    before = clinical_scores.simulate_ratings(np.asarray(people.state.mood), scale, seed=1)

    def lived(who, arm, name):
        seen = course(who, arm, days=42.0, save_every=24 * 7, record=("mood",))
        mood = np.asarray(seen["mood"])[:, [week - 1 for week in weeks]]
        everyone = tuple(map(str, range(256)))
        scores = clinical_scores.simulate_ratings(mood, scale, 2)
        return clinical_scores.ClinicalScores(everyone, (name,) * 256, tuple(map(float, weeks)), scores, before)

    constants = people.parameters.motivation
    at_once = eqx.tree_at(  # as much in the end, within a day
        lambda c: (c.parameters.motivation.visit_time, c.parameters.motivation.visit_lift),
        people,
        (jnp.asarray(24.0), constants.visit_lift * constants.visit_time / 24.0),
    )
    for name, arm in (("DRUG", (Placebo(), SSRI(10.0))), ("PLACEBO", (Placebo(), SSRI(0.0)))):
        found = {}
        for who, scores in (
            ("patients", patients.of(name)),
            ("model", lived(people, arm, name)),
            ("expecting at once", lived(at_once, arm, name)),
        ):
            of = found[who] = clinical_scores.time_course(scores)
            shares = "  ".join(
                f"{s:.2f} ({a:.2f} to {b:.2f})" for s, a, b in zip(of.share, of.low, of.high, strict=True)
            )
            baseline = np.nanmean(scores.baseline)
            print(f"{name} {who}: {of.subjects} people, baseline {baseline:.1f}, change {of.change:.1f}: {shares}")
        low, high = found["patients"].low[:3], found["patients"].high[:3]
        assert ((low < found["model"].share[:3]) & (found["model"].share[:3] < high)).all(), name
        assert found["expecting at once"].share[0] > high[0], name
