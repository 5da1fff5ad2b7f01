"""What a fit says of lives that were not finite, and that its one line lives them again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saturating
from fit_options import grouped
from people import strained
from saturating import HEALTH

from habenula.circuit.fitting import failures
from habenula.circuit.fitting.failures import format_arm
from habenula.circuit.model.interventions import SSRI, Ketamine, Recalibration
from habenula.circuit.optimisation import gradient_step, problem
from habenula.circuit.optimisation.restore import restore
from habenula.circuit.simulation.course import course

ARM = Recalibration([0.0, 2.0], [0.5, 0.5])
QUICK = dict(over="intensity", days=5.0, starts=2, steps=40, burden=0.0, shortfall=0.0)


def use(monkeypatch, stand_in):
    for module in (gradient_step, problem, failures):
        monkeypatch.setattr(module, "course", stand_in)


def test_a_life_that_is_not_finite_is_told_and_the_others_go_on(monkeypatch):
    use(monkeypatch, saturating.broken_course)
    found = restore(strained(3), ARM, 0.9 * HEALTH, **grouped(**QUICK))
    kept = saturating.course(strained(3), found.arm, 5.0, save_every=24, record=(), plan=None)["vta_output"][:, -1]
    assert float(kept[np.array([0, 2])].mean()) == pytest.approx(found.after, rel=1e-5), "without number 1"
    assert found.status == "reached"
    assert {(each.subject, each.direction) for each in found.failures} == {(1, "forward")}
    first = next(each for each in found.failures if each.start == 0)
    assert first.term == "VTA output on day 3"
    assert first.step > 0, "the arm as given is below what breaks it"
    assert f"2 simulations became non-finite and are left out there, first {found.failures[0]}." in found.reason
    assert str(first) == f"subject 1 from start {first.start} at step {first.step}, forward: VTA output on day 3"
    arm = eval(
        first.replay, {"course": lambda *args, **_: args[1], "Recalibration": Recalibration, "cohort": strained(3)}
    )
    assert float(saturating.share_of(arm, 1)[0]) > 0.25
    assert np.isnan(
        saturating.broken_course(strained(3), arm, 5.0, save_every=24, record=(), plan=None)["vta_output"][1, -1]
    )


def test_a_slope_that_is_not_finite_is_told_and_does_not_count(monkeypatch):
    use(monkeypatch, saturating.blind_course)
    found = restore(strained(3), ARM, 0.9 * HEALTH, **grouped(**QUICK | {"days": 4.0}))  # another length: compiled anew
    assert {(each.subject, each.direction, each.step) for each in found.failures} == {(2, "backward", 0)}
    assert found.failures[0].term == "the derivative of VTA output by intensity"
    assert found.status == "reached", "by the slopes of the others"
    slope = eval(
        found.failures[0].replay,
        {
            "jax": jax,
            "course": lambda *args, days, save_every, record: saturating.blind_course(
                *args, days, save_every=save_every, record=record, plan=None
            ),
            "Recalibration": Recalibration,
            "cohort": strained(3),
        },
    )
    assert np.isnan(slope[0].intensity).all()


def test_in_personal_fits_the_failed_subject_alone_has_failed(monkeypatch):
    use(monkeypatch, saturating.lost_course)
    found = restore(
        strained(3),
        Recalibration([0.0, 2.0], [2.0, 2.0]),
        0.9 * HEALTH,
        personal=True,
        **grouped(**QUICK | {"starts": 1, "days": 6.0}),
    )
    assert found.statuses == ("reached", "failed", "reached")
    assert np.isfinite(found.each).tolist() == [True, False, True]
    assert found.failures[0].step == 0


def test_an_arm_is_typed_to_the_last_digit():
    arm = (Ketamine([0.1, 1 / 3], [0.0, 7.3]), SSRI(), Recalibration(np.array([[1.5, 2.5]]), challenge=0.0))
    typed = eval(format_arm(arm), {each.__name__: each for each in (Ketamine, SSRI, Recalibration)})
    assert jax.tree.structure(typed) == jax.tree.structure(arm)
    jax.tree.map(np.testing.assert_array_equal, typed, arm)
    assert format_arm(()) == "()"


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*became non-finite:RuntimeWarning")
def test_a_failed_life_can_be_lived_again():
    people = strained(4)
    rate = jnp.full(4, people.parameters.plasticity.kir_rate).at[2].set(3e38)
    broken = eqx.tree_at(lambda c: c.parameters.plasticity.kir_rate, people, rate)
    found = restore(broken, ARM, 4.0, over="intensity", days=3.0, **grouped(starts=1, steps=2))
    assert np.isfinite(found.after)
    failure = found.failures[0]
    assert (failure.subject, failure.step, failure.direction) == (2, 0, "forward")
    lived = eval(failure.replay, {"course": course, "cohort": broken, "Recalibration": Recalibration})
    assert lived.failures[0].quantity in failure.term
    assert not jnp.isfinite(lived["vta_output"]).all()
