"""The scoreboard has a place for every published figure, and what stands there can be had in another way."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from habenula.circuit.behaviour import effort, effort_tasks
from habenula.circuit.data import constants, evidence
from habenula.circuit.model import lateral_habenula, lhb_population
from habenula.circuit.study.experiments import choices, courses, moments, scoreboard, sessions
from habenula.circuit.study.experiments import drugs as drug_experiments
from habenula.circuit.study.experiments import slices as slice_experiments
from habenula.circuit.study.experiments.cohorts import ExperimentCohorts

ROWS = {row.id: row for row in evidence.load_evidence()}
# Rows that the model was fitted to, or could have been, and does not reach: stated, so that no other joins them unseen.
# Preferences are normal over people: too many decline what nearly everyone takes, by .007 to .017.
OUTSIDE = {f"effort.base.{cell}" for cell in ("e1r2", "e2r2", "e2r3", "e3r3", "e3r4")}


def outside(values) -> set[str]:
    fitted = {id: value for id, value in values.items() if ROWS[id].role == "calibrate"}
    return {id for id, value in fitted.items() if evidence.compare_with_evidence(ROWS[id], value) == "outside"}


@pytest.fixture(scope="module")
def laboratory() -> ExperimentCohorts:
    return ExperimentCohorts()


@pytest.fixture(scope="module")
def drugs(laboratory):
    experiments = (
        drug_experiments.measure_transporters,
        drug_experiments.measure_ketamine_in_plasma,
        drug_experiments.measure_channel_block,
    )
    return {id: value for each in experiments for id, value in scoreboard.run_experiment(each, laboratory).items()}


@pytest.fixture(scope="module")
def slices(laboratory):
    return scoreboard.run_experiment(slice_experiments.measure_modes, laboratory)


def test_every_figure_has_its_place(monkeypatch):
    experiments = {"one": lambda lab: {"da.uptake.km": 0.18}, "two": lambda lab: {"spiral": jnp.inf, "da.rate": 4.0}}
    monkeypatch.setattr(scoreboard, "EXPERIMENTS", experiments)
    heard = []
    values = scoreboard.simulate_scores(report=lambda *words: heard.append(words))
    assert list(values) == list(ROWS)
    assert {id: value for id, value in values.items() if value is not None} == {"da.uptake.km": 0.18, "da.rate": 4.0}
    assert heard == [("one", 0, 2), ("two", 1, 2), ("done", 2, 2)]


def test_a_figure_without_a_row_is_refused(laboratory):
    with pytest.raises(KeyError, match=r"no rows .*da.paws.* in evidence"):
        scoreboard.run_experiment(lambda lab: {"da.paws": 4.0}, laboratory)


def test_drugs_are_where_they_were_fitted(drugs):
    assert outside(drugs) <= OUTSIDE
    assert {id for id in ROWS if id.startswith(("dat.", "sert.", "ket.pk", "ket.block"))} <= set(drugs)


@pytest.mark.parametrize("mg", drug_experiments.TABLET_DOSES)
def test_a_tablet_peaks_where_the_hill_equation_says(drugs, mg):
    site = {name: constants.constant_value(f"methylphenidate.occupancy.{name}") for name in ("maximum", "half", "hill")}
    bound = (mg / site["half"]) ** site["hill"]
    assert drugs[f"dat.mph.{mg:.0f}"] == pytest.approx(site["maximum"] * bound / (1 + bound), rel=5e-3)


def test_daily_drugs_settle_on_their_curve(drugs):
    def curve(drug, mg):
        site = constants.section_values(f"{drug}.occupancy")
        return site["maximum"] * mg / (mg + site["half"])

    assert drugs["dat.bup.2002"] == drugs["dat.bup.2003"] == pytest.approx(curve("bupropion", 300), rel=1e-3)
    assert drugs["sert.minimum"] == pytest.approx(curve("ssri", 10), rel=1e-3)
    assert drugs["sert.plateau"] == pytest.approx(curve("ssri", 40), rel=1e-3)


def test_uptake_is_the_table_of_constants(drugs):
    assert drugs["da.uptake.km"] == pytest.approx(constants.constant_value("dopamine.uptake_half"))
    assert drugs["da.uptake.vmax"] == pytest.approx(constants.constant_value("dopamine.uptake_maximum"))


@pytest.mark.parametrize("enantiomer", ["s", "r"])
def test_plasma_against_an_integrator(drugs, enantiomer):
    body = constants.section_values(f"ketamine.{enantiomer}")
    umol = 0.5e3 / constants.constant_value("ketamine.molar_mass")  # of the enantiomer in a mg of the racemate
    into = [umol * mg for mg in drug_experiments.KAMP_DOSES]

    def drift(t, content):
        blood, tissue = content[0] / body["central_volume"], content[1] / body["peripheral_volume"]
        exchanged = body["exchange"] * (blood - tissue)
        return [(into[int(t)] if t < 3 else 0.0) - body["clearance"] * blood - exchanged, exchanged]

    content = solve_ivp(drift, (0, 5), [0.0, 0.0], t_eval=[3.0, 5.0], rtol=1e-8, atol=1e-10, max_step=0.02).y[0]
    found = [drugs[f"ket.pk.{enantiomer}.{name}"] for name in ("peak", "5h")]
    assert found == pytest.approx(content / body["central_volume"], rel=1e-2)


def test_the_channel_gives_its_constants_back(drugs):
    assert drugs["ket.block.ic50"] == pytest.approx(
        constants.constant_value("ketamine_block.half_concentration"), rel=1e-3
    )
    assert drugs["ket.block.hill"] == pytest.approx(constants.constant_value("ketamine_block.hill"), rel=1e-3)
    assert drugs["ket.block.koff"] == pytest.approx(
        constants.constant_value("ketamine_block.off_rate") / 3600, rel=1e-3
    )


@pytest.mark.slow
def test_slices_are_where_they_were_fitted(slices):
    assert outside(slices) <= OUTSIDE
    shares = [slices[f"lhb.modes.{mode}"] for mode in ("silent", "tonic", "burst")]
    assert sum(shares) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_neurons_one_by_one_are_the_population(slices):
    """Neurons in lanes of their own give what populations of them give, within the error of eight noise paths."""
    paths = slice_experiments.PATHS
    found = lhb_population.simulate_population(
        lateral_habenula.neuron_constants(),
        lateral_habenula.slice_conditions(paths),
        neurons=slice_experiments.NEURONS,
        seconds=slice_experiments.RECORDING_SECONDS,
        seed=1,
        subjects=jnp.arange(paths, dtype=jnp.uint32),
    ).modes
    for id, values in {
        "lhb.rmp": found.potential,
        "lhb.rate.control": found.rate,
        "lhb.modes.silent": found.silent,
        "lhb.modes.tonic": found.tonic,
        "lhb.modes.burst": found.bursting,
    }.items():
        values = np.asarray(values)
        error = values.std(ddof=1) * math.sqrt(2 / paths)  # of the difference of two means over as many paths
        assert abs(slices[id] - values.mean()) < 6 * error, id


def test_crossings_lie_between_records():
    day, curve = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 3.0, 2.0])
    assert courses._crossing_day(day, curve, 2.0) == pytest.approx(1.5)
    assert courses._crossing_day(day, curve, 0.0) == 0.0
    assert math.isnan(courses._crossing_day(day, curve, 4.0))


def test_a_response_begins_at_a_tenth_of_its_size():
    since = np.arange(-400.0, 400.0)
    dip = -np.clip(since - 20, 0, 100)
    assert moments._response_onset(moments.EVENT_ONSET + since, dip) == moments.EVENT_ONSET + 30


def test_a_reversal_is_counted_in_trials_with_the_cue():
    """Four cues in turn; the good ones (0 and 1) begin to excite more at the third sight of them after the flip."""
    trials = sessions.TRIAL_COUNT
    cue = np.tile(np.arange(4), (2, trials // 4))
    sight = np.maximum(np.arange(trials) - sessions.FLIP_TRIAL, -1) // 4
    change = np.where((cue < 2) == (sight >= 2), 1.0, -1.0)
    assert sessions._trials_to_reversal(change, cue) == 2
    assert math.isnan(sessions._trials_to_reversal(np.where(cue < 2, -1.0, 1.0), cue))


def test_grades_are_ranked_within_subjects():
    cue, late = np.tile(np.arange(4), (3, 6)), np.arange(24) >= 12
    falling = np.asarray(sessions.GRADED_PROBABILITIES)[cue]
    swapped = np.where(cue == 0, 0.4, falling)  # the best comes second: 1 - 6 * 2 / (4 * 15)
    assert sessions._rank_correlation(-falling, cue, late) == pytest.approx(-1)
    assert sessions._rank_correlation(np.where(late, -swapped, falling), cue, late) == pytest.approx(-0.8)


@pytest.mark.nightly
def test_conditioning_has_all_its_rows(laboratory):
    values = scoreboard.run_experiment(sessions.measure_conditioning, laboratory)
    assert set(values) == {id for id in ROWS if id.startswith(("lhb.rpe.", "lesion."))}
    assert all(value is not None for value in values.values())


def test_offers_are_those_at_which_staircases_begin():
    """One person's circuit in health: the cell of the lowest reward for the greatest effort, in closed form."""
    own, people = effort.Preferences(*(jnp.asarray(value) for value in (1.0, 0.5, 2.0))), 4000
    made = effort_tasks.run_task(effort_tasks.staircases(), own, subjects=people, seed=3)
    p, trial = effort.effort_constants(), jnp.arange(made.accepted.shape[1], dtype=jnp.float32)
    fresh = effort.task_novelty(trial, p.fade)
    bid = [
        effort.subjective_value(jnp.asarray(4.0), jnp.asarray(1.0), each, p)
        for each in (own, effort.early_preferences(p))
    ]
    chance = effort.acceptance_probability(effort.acceptance_logit(*bid, fresh, p.naive), p.lapse)
    here = made.first & (made.effort == 4) & (made.reward == 1)
    expected = float((here * np.asarray(chance)).sum() / here.sum())
    found = choices.first_offer_acceptance(made, 4, 1)
    assert abs(found - expected) < 5 * math.sqrt(0.25 / here.sum())
    assert here.sum() == people, "each has one staircase that begins there"


@pytest.mark.nightly
def test_people_choose_in_health_and_in_depression(laboratory):
    values = scoreboard.run_experiment(choices.measure_offers, laboratory)
    assert set(values) == {id for id in ROWS if id.startswith(("effort.base.", "effort.mdd."))}
    assert outside(values) <= OUTSIDE
    for id in OUTSIDE:
        assert ROWS[id].value - 0.035 < values[id] < ROWS[id].high, "near, and below"
    assert values["effort.mdd.d"] > 0, "fewer hard choices in depression"


@pytest.fixture(scope="module")
def stretches(laboratory):
    """The circuit left alone, driven and silenced."""
    return choices._stimulated_states(laboratory)


@pytest.mark.slow
def test_volleys_drive_the_habenula_and_a_current_silences_it(stretches):
    """As the RMTg shows, whose own rate is what a silent habenula leaves."""
    p = constants.section_values("dopamine")
    quiet, driven, silenced = ((each["rmtg"] - p["rmtg_baseline"]) / p["rmtg_gain"] for each in stretches)
    reference = (float(effort.effort_constants().reference_rmtg) - p["rmtg_baseline"]) / p["rmtg_gain"]
    error = quiet.std(ddof=1) / math.sqrt(len(quiet))
    assert abs(quiet.mean() - reference) < 4 * error + 0.1 * reference, "a moment within a tenth of a course"
    per_second = 1000 / choices.VOLLEY_INTERVAL
    assert (driven > per_second).all(), "a spike or two to each volley"
    assert (silenced < 0.05 * quiet).all()
    dopamine = [each["dopamine"] for each in stretches]
    assert (dopamine[1] < 0.01 * dopamine[0]).all()
    assert (dopamine[2] > dopamine[0]).all()


@pytest.mark.slow
def test_without_a_veto_and_at_any_dopamine_the_habenula_has_no_say(stretches, monkeypatch):
    """What the drive does to choices goes by the veto and by dopamine, and by nothing else."""
    p = effort.effort_constants()
    spared = eqx.tree_at(lambda p: (p.veto, p.dearness, p.latency_veto), p, (jnp.asarray(0.0),) * 3)
    share = lambda circuit: choices._acceptance_share(choices._choices_under(circuit, effort_tasks.eefrt(), 0))
    few = [{name: values[:4] for name, values in each.items()} for each in stretches]
    assert share(few[1]).mean() < 0.8 * share(few[0]).mean()
    monkeypatch.setattr(effort, "effort_constants", lambda: spared)
    np.testing.assert_array_equal(share(few[1]), share(few[0]))


@pytest.mark.slow
def test_silence_frees_little_because_the_rmtg_fires_of_itself(stretches, monkeypatch):
    """Hard choices hardly rise without a habenula; they would, had the RMTg no rate but what the habenula gives it."""
    quiet, _, silenced = ({name: values[:4] for name, values in each.items()} for each in stretches)
    share = lambda circuit: choices._acceptance_share(choices._choices_under(circuit, effort_tasks.eefrt(), 0)).mean()
    assert abs(share(silenced) - share(quiet)) < 0.02
    own = constants.constant_value("dopamine.rmtg_baseline")
    bare = lambda circuit: circuit | {"rmtg": np.maximum(circuit["rmtg"] - own, 1e-3)}
    p = eqx.tree_at(
        lambda p: p.reference_rmtg, effort.effort_constants(), effort.effort_constants().reference_rmtg - own
    )
    monkeypatch.setattr(effort, "effort_constants", lambda: p)
    assert share(bare(silenced)) - share(bare(quiet)) > 0.05


@pytest.mark.nightly
def test_effort_under_treatment(laboratory):
    values = scoreboard.run_experiment(choices.measure_treatment, laboratory)
    assert set(values) == {id for id in ROWS if id.startswith("effort.drugs.")}
    ssri, bupropion, stimulant = (values[f"effort.drugs.{name}"] for name in ("ssri", "bupropion", "methylphenidate"))
    assert 0 < ssri < bupropion < stimulant < 1, "by how much of the dopamine transporter they take"


def test_every_row_has_a_figure_or_a_reason():
    reasons = scoreboard.explain_absences({})
    assert set(reasons) == set(ROWS)
    for begins in scoreboard.ABSENCE_REASONS:
        assert any(id.startswith(begins) for id in ROWS), begins
    assert reasons["da.rate"] == "the simulated subjects gave none"
    assert reasons["lhb.synch.ketamine"] == scoreboard.ABSENCE_REASONS["lhb.synch"]
    values = dict.fromkeys(ROWS, 1.0)
    assert scoreboard.explain_absences(values | {"da.rate": None, "spiral": math.nan}).keys() == {"da.rate", "spiral"}


@pytest.mark.nightly
def test_the_whole_scoreboard():
    values = scoreboard.simulate_scores()
    assert list(values) == list(ROWS)
    assert all(value is None or math.isfinite(value) for value in values.values())
    no_gain = {"stim.partial.saturation", "stim.partial.spread"} if (values["stim.partial.share"] or 0) <= 0 else set()
    without = {id for id, why in scoreboard.explain_absences({}).items() if why in scoreboard.ABSENCE_REASONS.values()}
    gain = {id for id in ROWS if id.startswith("stim.partial")}
    assert {id for id, value in values.items() if value is None} == without - gain | no_gain
    assert outside(values) <= OUTSIDE
    assert values["lesion.omission"] == pytest.approx(0, abs=1e-3)  # nothing but the habenula carries the omission


@pytest.mark.nightly
def test_two_devices_give_the_same_figures():
    alone, shared = (
        scoreboard.run_experiment(courses.measure_synapses, ExperimentCohorts(devices=devices)) for devices in (1, 2)
    )
    assert alone == pytest.approx(shared, rel=1e-6)
