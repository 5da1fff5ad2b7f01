"""Evidence from choices between effort and rest: what the circuit of each subject makes of people's preferences.

Preferences are those of the population that `calibration.effort` fitted to all choices of 479 people; their shares of
accepted first offers were not fitted one by one, and come out as they come out. Every subject lends its circuit to many
people, so that chance in their choices is smaller than in the publication. Animals choose here as people do: their effort
is the share of hard tasks of the EEfRT that are chosen.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ...behaviour import effort
from ...behaviour.choices import Choices
from ...behaviour.effort import bias_slope_on_anhedonia
from ...behaviour.effort_tasks import LEVEL_COUNT, EffortTask, eefrt, run_task, staircases
from ...data import constants
from ...model.lhb_population import make_population_plan
from ...simulation.cohort import Cohort
from ...simulation.course import observe_cohort
from ...simulation.decisions import draw_preferences, population_moments
from ...simulation.moment import VOLLEY_DURATION, VOLLEY_SIZE, moment
from .cohorts import ExperimentCohorts, Figures

SUBJECTS_PER_CONDITION = 128  # with the circuit of each subject
SUBJECTS, NEURONS = 32, 128  # of the moment in which the habenula is driven and silenced
STRETCH_DURATION = 2000.0  # ms: quiet, driven, quiet again, silenced; the last second of each is read
VOLLEY_INTERVAL = 50.0  # ms between volleys: trains of 20 Hz, as are usual at habenular terminals
SILENCING_CURRENT = -1.0  # uA/cm2, under which hardly a neuron fires

CircuitState = Mapping[str, np.ndarray]  # "rmtg" (Hz) and "dopamine" (uM) of each subject


def measure_offers(lab: ExperimentCohorts) -> Figures:
    """Rows `effort.base` and `effort.mdd`: the same people, once healthy and once depressed.

    What depression does to a weight is the change of its mean, in spreads of the population. The slope of the bias is over
    healthy, resilient and depressed people, of whom as many are so as among those who gave the preferences.
    """
    seen = [_resting_state(cohort) for cohort in (lab.well, lab.spared, lab.ill)]
    well, _, ill = seen
    chosen = [_choices_under(each, staircases(), lab.seed) for each in (well, ill)]
    hard = [_acceptance_share(_choices_under(each, eefrt(), lab.seed)) for each in (well, ill)]
    spread = np.sqrt(np.mean([each.var(ddof=1) for each in hard]))
    levels, offer = range(1, LEVEL_COUNT + 1), first_offer_acceptance
    moved = {
        name: (
            getattr(_modulated_preferences(ill, lab.seed), name) - getattr(_modulated_preferences(well, lab.seed), name)
        ).mean()
        / sd
        for name, sd in zip(
            ("bias", "reward", "effort"), np.sqrt(np.square(population_moments()[1]).sum(axis=1)), strict=True
        )
    }
    veto = [
        -np.asarray(effort.rmtg_bias_reduction(jnp.asarray(each["rmtg"]), effort.effort_constants())) for each in seen
    ]
    depressed = constants.constant_value("effort_population.depressed")
    return {f"effort.base.e{e}r{r}": offer(chosen[0], e, r) for e in levels for r in levels} | {
        "effort.mdd.bias": bias_slope_on_anhedonia(veto, [each["drive"] for each in seen], depressed),
        "effort.mdd.weights": max(abs(moved["reward"]), abs(moved["effort"])) / abs(moved["bias"]),
        "effort.mdd.raw": _acceptance_share(chosen[1]).mean() - _acceptance_share(chosen[0]).mean(),
        "effort.mdd.d": (hard[0].mean() - hard[1].mean()) / spread,
    }


def measure_stimulation(lab: ExperimentCohorts) -> Figures:
    """Rows `effort.rmtg.effort` and `effort.silence`: healthy subjects whose habenula is driven, left alone, or silenced.

    Driven: volleys into all of its neurons, 20 a second, which reach the RMTg and what acts on choices at once. Of equal
    cost are choices whose greater reward takes no more presses and no more time.
    """
    quiet, driven, silenced = _stimulated_states(lab)
    p = constants.section_values("eefrt")
    equal = eefrt(hard_presses=p["easy_presses"], hard_seconds=p["easy_seconds"])
    share = lambda circuit, task: _acceptance_share(_choices_under(circuit, task, lab.seed)).mean()
    left_alone = share(quiet, eefrt())
    return {
        "effort.rmtg.effort": share(driven, eefrt()) / left_alone,
        "effort.silence.high": share(silenced, eefrt()) - left_alone,
        "effort.silence.equal": share(silenced, equal) / share(quiet, equal),
    }


def measure_treatment(lab: ExperimentCohorts) -> Figures:
    """Rows `effort.drugs`: share of the deficit in hard choices that eight weeks of a drug regain, on its last morning."""
    last = {
        name: {each: np.asarray(lived[each])[:, -1] for each in ("rmtg", "dopamine")}
        for name, lived in lab.courses.items()
        if name in ("healthy", "untreated", "bupropion", "stimulant", "ssri")
    }
    hard = {
        name: _acceptance_share(_choices_under(circuit, eefrt(), lab.seed)).mean() for name, circuit in last.items()
    }
    regained = lambda arm: (hard[arm] - hard["untreated"]) / (hard["healthy"] - hard["untreated"])
    return {
        "effort.drugs.bupropion": regained("bupropion"),
        "effort.drugs.methylphenidate": regained("stimulant"),
        "effort.drugs.ssri": regained("ssri"),
    }


def first_offer_acceptance(choices: Choices, effort: int, reward: int) -> float:
    """Share that is accepted where a staircase begins with this offer."""
    here = choices.first & (choices.effort == effort) & (choices.reward == reward)
    return float(choices.accepted[here].mean())


def _resting_state(cohort: Cohort) -> CircuitState:
    """Of a cohort as it stands; drive too."""
    return {name: np.asarray(value) for name, value in observe_cohort(cohort, ("rmtg", "dopamine", "drive")).items()}


def _stimulated_states(lab: ExperimentCohorts) -> list[CircuitState]:
    """The circuit left alone, driven and silenced: stretches of one moment of the same subjects."""

    def current(t: jax.Array) -> dict[str, ArrayLike]:
        pulse = jnp.where(t % VOLLEY_INTERVAL < VOLLEY_DURATION, VOLLEY_SIZE, 0.0)
        driven = (t >= STRETCH_DURATION) & (t < 2 * STRETCH_DURATION)
        return {"current": jnp.where(driven, pulse, jnp.where(t >= 3 * STRETCH_DURATION, SILENCING_CURRENT, 0.0))}

    seen = moment(
        lab.well[:SUBJECTS],
        4 * STRETCH_DURATION / 1000,
        inputs=current,
        neurons=NEURONS,
        save_every=40,
        record=("rmtg", "dopamine"),
        plan=make_population_plan(NEURONS, lab.devices),
    )
    t = np.asarray(seen.t)
    ends = [STRETCH_DURATION * (i + 1) for i in (0, 1, 3)]
    last_second = lambda name, end: np.asarray(seen[name])[:, (t > end - 1000) & (t <= end)].mean(axis=1)
    return [{name: last_second(name, end) for name in ("rmtg", "dopamine")} for end in ends]


def _modulated_preferences(circuit: CircuitState, seed: int) -> effort.Preferences:
    """Preferences of many people with each subject's circuit."""
    many = {name: jnp.asarray(np.tile(circuit[name], SUBJECTS_PER_CONDITION)) for name in ("rmtg", "dopamine")}
    own = draw_preferences(len(many["rmtg"]), seed)
    return effort.modulate_preferences(own, many["rmtg"], many["dopamine"], effort.effort_constants())


def _choices_under(circuit: CircuitState, task: EffortTask, seed: int) -> Choices:
    """Of many people with each subject's circuit."""
    return run_task(
        task, _modulated_preferences(circuit, seed), rmtg=np.tile(circuit["rmtg"], SUBJECTS_PER_CONDITION), seed=seed
    )


def _acceptance_share(choices: Choices) -> np.ndarray:
    """Of its offers that each accepts."""
    return choices.accepted.sum(axis=1) / choices.known.sum(axis=1)
