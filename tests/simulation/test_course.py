"""Courses: the same life in any batch, tile, device count or resumed run; errors at the door; trouble reported."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import PLAIN

from habenula.circuit.model.interventions import SSRI, Ketamine, Recalibration, Stress
from habenula.circuit.simulation.conditions import depressed, draw, healthy
from habenula.circuit.simulation.course import course
from habenula.kernels import Plan, has_hoisted_call

ARM = (Ketamine(0.5, 1.0), Recalibration([2.2], 1.0), SSRI(10.0))


@pytest.fixture(scope="module")
def ill():
    return draw(depressed(), 70, seed=5)


@pytest.fixture(scope="module")
def whole(ill):
    return course(ill, ARM, 6.0, plan=Plan(tile=64))


def same(one, other, rtol=0.0):
    for name in one.record:
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("plan", [Plan(tile=512), Plan(tile=64, devices=2)], ids=str)
def test_tiles_and_devices_do_not_change_a_life(ill, whole, plan):
    same(course(ill, ARM, 6.0, plan=plan), whole, rtol=1e-5)


@pytest.mark.parametrize(("which", "plan"), [(slice(3, 4), Plan()), (slice(0, 7), PLAIN)], ids=["alone", "seven"])
def test_company_does_not_change_a_life(ill, whole, which, plan):
    fewer = course(ill[which], ARM, 6.0, plan=plan)
    for name in whole.record:
        np.testing.assert_allclose(fewer[name], whole[name][which], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_plain_loop_agrees(ill, whole):
    some = course(ill[:20], ARM, 6.0, plan=Plan(backend="scan"))
    for name in whole.record:
        np.testing.assert_allclose(some[name], whole[name][:20], rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("arm", [(), ARM], ids=["none", "all"])
def test_every_course_is_one_piece_of_machine_code(ill, arm):
    """On a JAX that breaks this, courses are right and several times as slow."""
    few = ill[:4]
    lived = lambda state: course(eqx.tree_at(lambda c: c.state, few, state), arm, 3.0, record=("vta_output",))[
        "vta_output"
    ]
    assert has_hoisted_call(str(jax.jit(lived).lower(few.state).compile().as_text()))


@pytest.mark.slow
def test_a_gradient_of_a_course_is_too(ill):
    few = ill[:4]
    lived = lambda intensity: course(few, Recalibration([0.2], intensity), 1.0)["vta_output"].mean()
    compiled = str(jax.jit(jax.grad(lived)).lower(1.0).compile().as_text())
    assert len([line for line in compiled.splitlines() if has_hoisted_call(line)]) == 2, "the run, and its derivative"


def test_a_course_resumed_is_the_course(ill, whole):
    first = course(ill, ARM, 3.0, plan=Plan(tile=64))
    second = course(first.cohort, ARM, 3.0, start=3.0, plan=Plan(tile=64))
    np.testing.assert_allclose(second.day, whole.day[18:])
    for name in whole.record:
        np.testing.assert_allclose(
            jnp.concatenate([first[name], second[name]], axis=1), whole[name], rtol=1e-6, atol=1e-6, err_msg=name
        )


def test_twin_arms_share_their_noise(ill):
    """Two arms that do nothing different differ in nothing, and a third differs only after it acts."""
    untreated, again = (course(ill[:8], (), 3.0, plan=PLAIN) for _ in range(2))
    same(untreated, again)
    late = course(ill[:8], (Stress(start=2.0, days=1.0),), 3.0, plan=PLAIN)
    before = np.asarray(late.day) <= 2.0
    np.testing.assert_allclose(late["vta_output"][:, before], untreated["vta_output"][:, before], rtol=1e-5)
    assert (np.asarray(late["vta_output"])[:, -1] < np.asarray(untreated["vta_output"])[:, -1]).all()


@pytest.mark.slow
def test_a_finer_step_changes_little(ill):
    """The same life by quarter-hours, also in the hours in which ketamine enters the channels and shuts them."""
    from habenula.circuit.model import slow_clock
    from habenula.circuit.model.interventions import compute_arm_inputs
    from habenula.circuit.simulation.course import load_transfer_function

    people, count, days = draw(depressed(), 16, seed=5, plan=PLAIN), 16, 8
    p = eqx.tree_at(lambda p: p.synapses.everyday_spread, people.parameters, jnp.asarray(0.0))
    transfer, arm = load_transfer_function(p), (SSRI(10.0), Ketamine(0.5, [1.0, 3.39]), Recalibration([2.2], 1.0))

    def live(dt):
        times = jnp.asarray(np.arange(round(days * 24 / dt)) * dt, jnp.float32)
        every = lambda x: jnp.broadcast_to(x if x.ndim > 1 else x[:, None], (*x.shape[: max(x.ndim - 1, 1)], count))
        inputs = jax.tree.map(every, compute_arm_inputs(arm, times, dt, p))
        advance = lambda state, now: slow_clock.step_slow_clock(state, now, jnp.zeros(count), p, transfer, dt)
        state, seen = jax.jit(lambda state: jax.lax.scan(advance, state, inputs))(people.state)
        return state, np.asarray(seen.output).reshape(days * 24, -1, count).mean(axis=1)

    (hourly, output), (finer, output_finer) = live(1.0), live(0.25)
    # People differ by when they relapse, which hangs on the last channels that stay shut; the mean hardly does.
    np.testing.assert_allclose(hourly.gain, finer.gain, rtol=2e-2)
    np.testing.assert_allclose(hourly.gain.mean(), finer.gain.mean(), rtol=5e-3)
    np.testing.assert_allclose(hourly.kir_shift.mean(), finer.kir_shift.mean(), rtol=3e-2)
    settled = ~np.isin(np.arange(days * 24), [24, 52, 53, 54, 81])  # all but the hours of doses and of the session
    output, output_finer = (each.mean(axis=1)[settled] for each in (output, output_finer))
    np.testing.assert_allclose(output, output_finer, atol=0.06 * output_finer.mean())


def test_a_second_call_does_not_compile(ill):
    few = ill[:4]
    course(few, (Ketamine(0.5, 1.0),), 3.0, plan=PLAIN)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    try:
        course(few, (Ketamine(0.25, 2.0),), 3.0, plan=PLAIN)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled


@pytest.mark.parametrize(
    ("arm", "days", "options", "message"),
    [
        ((), 0.0, {}, "days=0.0"),
        ((), 3.0, {"save_every": 5}, "72 h, which does not divide"),
        ((), 3.0, {"start": -1.0}, "start=-1.0"),
        ((), 3.0, {"record": ("vta",)}, r"cannot record \['vta'\]"),
        ((Ketamine(0.5, 5.0),), 3.0, {}, "outside the course"),
    ],
)
def test_errors_at_the_door(ill, arm, days, options, message):
    with pytest.raises(ValueError, match=message):
        course(ill[:2], arm, days, **options)


def test_an_arm_is_one_intervention_or_several(ill):
    one, several = (course(ill[:2], arm, 3.0, plan=PLAIN) for arm in (Ketamine(), (Ketamine(),)))
    np.testing.assert_array_equal(one["mood"], several["mood"])
    with pytest.raises(TypeError, match="not an intervention"):
        course(ill[:2], ("ketamine",), 3.0)


def test_a_parameter_that_is_not_finite_is_refused(ill):
    clearance = ill.parameters.clearance.at[7].set(jnp.nan)
    broken = eqx.tree_at(lambda c: c.parameters.clearance, ill, clearance)
    with pytest.raises(ValueError, match=r"clearance of 1 subjects, first at index 7, is not finite"):
        course(broken, (), 3.0)


def test_numbers_that_go_bad_in_flight_are_reported(ill):
    """A subject whose kinetics overflow is named with day and quantity; the others are what they were."""
    few = ill[:6]
    rate = jnp.full(6, few.parameters.plasticity.kir_rate).at[4].set(3e38)
    broken = eqx.tree_at(lambda c: c.parameters.plasticity.kir_rate, few, rate)
    with pytest.warns(RuntimeWarning, match="1 of 6 subjects became non-finite; subject 4 first, in kir_shift"):
        seen = course(broken, (), 3.0, plan=PLAIN)
    assert [(failure.subject, failure.quantity) for failure in seen.failures] == [(4, "kir_shift")]
    assert 0 < seen.failures[0].day <= 3.0
    others = np.array([0, 1, 2, 3, 5])
    well = course(few, (), 3.0, plan=PLAIN)
    np.testing.assert_allclose(seen["mood"][others], well["mood"][others], rtol=1e-5)


@pytest.mark.slow
def test_verify_puts_an_error_bar_on_the_transfer_function(ill):
    seen = course(draw(healthy(), 4, seed=1, plan=PLAIN), (), 3.0, verify=6, plan=PLAIN)
    assert seen.discrepancy is not None
    assert seen.discrepancy["log_habenula"].shape == (6,)
    assert np.sqrt(np.mean(np.square(seen.discrepancy["log_habenula"]))) < 0.5
    assert np.abs(seen.discrepancy["burst"]).max() < 0.1
    assert np.abs(seen.discrepancy["active"]).max() < 0.25


def test_a_course_prints_in_at_most_twelve_lines(whole):
    lines = repr(whole).splitlines()
    assert len(lines) <= 12
    assert lines[0] == "Course of 70 subjects, day 0.1667 to 6, 36 records"
    assert all(name in lines[1] for name in whole.record)
    assert "none" in lines[2]
    assert whole._repr_html_().startswith("<table>")


def test_shapes_of_a_course_print_as_any_tree(whole):
    shapes = jax.eval_shape(lambda: whole)
    assert "ShapeDtypeStruct" in repr(shapes)
    assert shapes._repr_html_().startswith("<pre>")


def test_a_missing_quantity_names_the_nearest(whole):
    with pytest.raises(KeyError, match="did you mean vta_output"):
        whole["VTA"]
