"""Pharmacology against quadrature, closed forms and the figures it is fitted to; gradients against differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import inside
from scipy.integrate import quad, solve_ivp

from habenula.circuit.data import constants
from habenula.circuit.model import pharmacokinetics, pharmacology, trapping_block

infusion = jax.jit(pharmacokinetics.infusion_content, static_argnames="dt")
unit_infusion = jax.jit(pharmacokinetics.unit_rate_content, static_argnames="dt")
ketamine_concentration = jax.jit(pharmacology.ketamine_concentration)
tablet_concentration = jax.jit(pharmacology.tablet_concentration, static_argnames="dt")
daily_concentration = jax.jit(pharmacology.daily_concentration, static_argnames="dt")


def content(t, start, duration, rate):
    """The compartment's content, written out case by case."""
    if t <= start:
        return 0.0
    fed = min(t - start, duration)
    return np.exp(-rate * (t - start - fed)) * (1 - np.exp(-rate * fed)) / (rate * duration)


def hours(days):
    return jnp.arange(0.0, 24.0 * days)


def upto(days):
    return jnp.arange(0.0, 24.0 * days + 1)


class TestInfusion:
    @pytest.mark.parametrize("start", [-3.0, 0.0, 0.3, 1.0, 1.4, 2.0, 5.0])
    @pytest.mark.parametrize("duration", [0.2, 1.0, 2.7])
    @pytest.mark.parametrize("rate", [0.02, 0.7, 25.0])
    def test_mean_over_a_step_is_the_integral(self, float64, start, duration, rate):
        corners = sorted({1.0, 2.0, *np.clip([start, start + duration], 1.0, 2.0)})
        pieces = [quad(content, a, b, (start, duration, rate), epsabs=1e-13)[0] for a, b in itertools.pairwise(corners)]
        assert infusion(1.0, 1.0, start, duration, rate) == pytest.approx(sum(pieces), rel=1e-9, abs=1e-12)

    def test_what_enters_leaves(self, float64):
        """The area under the content is one amount over the rate, however the infusion falls on the grid."""
        for start, duration in ((0.0, 1.0), (3.37, 0.66), (3.9, 9.4)):
            area = jnp.sum(infusion(hours(30), 1.0, start, duration, 0.3))
            assert area == pytest.approx(1.0 / 0.3, rel=1e-12)

    def test_a_long_infusion_is_short_ones_in_a_row(self, float64):
        whole = infusion(hours(3), 1.0, 2.6, 8.0, 0.4)
        halves = [infusion(hours(3), 1.0, start, 4.0, 0.4) for start in (2.6, 6.6)]
        np.testing.assert_allclose(whole, 0.5 * (halves[0] + halves[1]), rtol=1e-12, atol=1e-15)

    def test_gradients_also_where_a_dose_falls_on_the_grid(self, float64):
        """Starts and ends (after one hour) meet the step's own here; the kernel has no kink there.

        Where the second derivative jumps, central differences are off by a share of the nudge.
        """

        @jax.jit
        def mean(start, duration, rate):
            return infusion(2.0, 1.0, start, duration, rate)

        nudge = 1e-6
        for start in (0.0, 0.5, 1.0, 2.0, 2.5, 3.0):
            point = (start, 1.0, 0.6)
            forward, reverse = (kind(mean, (0, 1, 2))(*point) for kind in (jax.jacfwd, jax.jacrev))
            for i in range(3):
                up, down = (mean(*(x + sign * nudge * (i == j) for j, x in enumerate(point))) for sign in (1, -1))
                assert float(forward[i]) == pytest.approx(float(up - down) / (2 * nudge), abs=2 * nudge)
                assert float(reverse[i]) == pytest.approx(float(forward[i]), rel=1e-12)

    def test_single_precision_lasts_a_year(self):
        t = np.array([0.0, 100.0, 4000.0, 8750.0, 8755.0, 8758.0, 8759.0], np.float32)
        for start, duration, rate in (
            (8753.9, 0.7, 0.2),
            (1000.3, 7000.0, 0.023),
            (8756.5, 1.5, 6.0),
            (0.25, 8759.0, 0.03),
        ):
            single = unit_infusion(jnp.asarray(t), 1.0, np.float32(start), np.float32(duration), np.float32(rate))
            with jax.enable_x64(True):
                double = unit_infusion(jnp.asarray(t, jnp.float64), 1.0, start, duration, rate)
            assert single.dtype == jnp.float32
            # A time near 8760 h is stored to 2 s, and an infusion's edge moves by that much.
            np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-3 * min(duration, 1.0 / rate))


class TestKetamine:
    def dose(self, times, dt=1.0, mg_per_kg=0.5, start=0.0, duration=40 / 60, **options):
        one = lambda value: jnp.asarray([value])
        kinetics = pharmacology.ketamine_constants()
        ends = jnp.append(times, times[-1] + dt)
        return ketamine_concentration(ends, one(mg_per_kg), one(start), one(duration), kinetics, **options)

    def test_against_an_integrator(self, float64):
        """The two-compartment equations, integrated numerically: in, out, and to and fro."""
        kinetics = pharmacology.ketamine_constants()
        total = np.zeros(12)
        for body in (kinetics.s, kinetics.r):
            v1, clearance, v2, exchange = (float(leaf) for leaf in jax.tree.leaves(body))

            def flow(t, amount, v1=v1, clearance=clearance, v2=v2, exchange=exchange):
                blood, tissue, _ = amount
                given = 0.5 * 1e3 * 0.5 / 237.7 / 1.5 if 0.25 < t < 1.75 else 0.0
                moved = exchange * (blood / v1 - tissue / v2)
                return [given - clearance * blood / v1 - moved, moved, blood / v1]

            grid = np.arange(13.0)
            area = solve_ivp(flow, (0, 12), [0, 0, 0], t_eval=grid, rtol=1e-9, atol=1e-12, max_step=0.02).y[2]
            total += np.diff(area)
        np.testing.assert_allclose(self.dose(hours(0.5), start=0.25, duration=1.5), total, rtol=1e-5)

    def test_peak_and_half_life(self, float64):
        fine = jnp.arange(0.0, 24.0, 0.01)
        curve = self.dose(fine, 0.01)
        assert fine[jnp.argmax(curve)] == pytest.approx(40 / 60, abs=0.02)
        assert 0.7 < curve.max() < 1.4  # uM
        late = curve[jnp.asarray([1500, 2000])]
        inside("ket.halflife", 5.0 * np.log(2) / np.log(late[0] / late[1]))

    def test_the_published_curves(self, float64, shared_data):
        from habenula.circuit.calibration import pharmacology as calibration

        kinetics = pharmacology.ketamine_constants()
        for enantiomer, body in (("s", kinetics.s), ("r", kinetics.r)):
            for curve in calibration.read_curves(shared_data / "ketamine_pk", enantiomer):
                simulated = calibration.predict_plasma(body, curve)
                missed = simulated - curve.concentrations
                spread = curve.concentrations - curve.concentrations.mean()
                assert 1 - jnp.sum(missed**2) / np.sum(spread**2) > 0.95
                assert np.median(np.abs(missed) / curve.concentrations) < 0.1

    @pytest.mark.parametrize(("enantiomer", "s_share"), [("s", 1.0), ("r", 0.0)])
    def test_the_published_peak_and_tail(self, float64, enantiomer, s_share):
        instant = 1e-3
        rates = jnp.asarray([0.28, 0.57, 1.14]) / 2  # mg/kg/h of this enantiomer, one hour each
        starts, durations = jnp.arange(3.0), jnp.ones(3)
        ends = jnp.asarray([3.0 - instant, 3.0, 5.0 - instant, 5.0])
        peak, _, tail = ketamine_concentration(
            ends, rates, starts, durations, pharmacology.ketamine_constants(), s_share=s_share
        )
        inside(f"ket.pk.{enantiomer}.peak", peak)
        inside(f"ket.pk.{enantiomer}.5h", tail)

    def test_doses_add(self, float64):
        together = ketamine_concentration(
            upto(5),
            jnp.array([0.5, 0.3]),
            jnp.array([2.2, 50.0]),
            jnp.array([0.7, 1.0]),
            pharmacology.ketamine_constants(),
        )
        apart = self.dose(hours(5), start=2.2, duration=0.7) + self.dose(hours(5), 1.0, 0.3, 50.0, 1.0)
        np.testing.assert_allclose(together, apart, rtol=1e-12, atol=1e-14)  # uM

    def test_lanes_are_subjects(self):
        """A subject among others gets what it gets alone; constants and factors may differ between subjects."""
        doses = jnp.asarray([[0.5, 0.2, 0.0], [0.1, 0.5, 0.0]])
        starts, durations = doses + 3.0, jnp.full((2, 3), 0.7)
        factor, kinetics = jnp.asarray([1.0, 0.7, 1.3]), pharmacology.ketamine_constants()
        compute = lambda *one, clearance_factor: ketamine_concentration(
            upto(2), *one, kinetics, clearance_factor=clearance_factor
        )
        together = compute(doses, starts, durations, clearance_factor=factor)
        alone = [compute(doses[:, i], starts[:, i], durations[:, i], clearance_factor=factor[i]) for i in range(3)]
        np.testing.assert_allclose(together, jnp.stack(alone, 1), rtol=3e-6)
        assert together.shape == (48, 3)
        assert not together[:, 2].any()

    def test_memory_does_not_grow_with_the_number_of_doses(self):
        """Forward and backward, by the compiler's own account."""

        def memory(doses):
            zeros, ones = jnp.zeros((doses, 7)), jnp.ones((doses, 7))

            def total(amounts, starts):
                return jnp.sum(
                    ketamine_concentration(upto(10), amounts, starts, ones, pharmacology.ketamine_constants())
                )

            used = jax.jit(jax.grad(total, (0, 1))).lower(zeros, zeros).compile().memory_analysis()
            assert used is not None
            return used.temp_size_in_bytes

        one_curve = 240 * 7 * 4
        assert memory(100) - memory(10) < one_curve

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.0, 200.0, width=32), st.floats(0.125, 5.0, width=32))
    def test_no_dose_no_drug(self, start, duration):
        curve, slope = jax.jvp(
            lambda dose, at: self.dose(hours(10), mg_per_kg=dose, start=at, duration=duration),
            (jnp.asarray(0.0), jnp.asarray(start)),
            (jnp.asarray(0.0), jnp.asarray(1.0)),
        )
        assert not curve.any()
        assert not slope.any()

    @settings(max_examples=30, deadline=None)
    @given(st.floats(-5.0, 200.0, width=32))
    def test_the_time_of_a_dose_is_continuous(self, start):
        moved = jnp.abs(self.dose(hours(10), start=start + 2e-3) - self.dose(hours(10), start=start))
        assert moved.max() < 2e-3 * 2.0  # uM: the mean over an hour moves at most at 2 uM per hour


class TestTablets:
    def level(self, times, dt=1.0, dose=20.0, clock=8.0, start=0.0, stop=24.0, drug=None):
        one = lambda value: jnp.asarray([value])
        drug = drug or pharmacology.methylphenidate_constants()
        return tablet_concentration(times, dt, one(dose), one(clock), one(start), one(stop), drug)

    def test_one_tablet_peaks_at_its_dose(self, float64):
        fine = jnp.arange(0.0, 48.0, 0.01)
        curve = self.level(fine, 0.01)
        assert curve.max() == pytest.approx(20.0, rel=2e-3)
        assert fine[jnp.argmax(curve)] - 8.0 == pytest.approx(2.0 + 0.25 / 2, abs=0.02)
        assert not curve[fine < 7.99].any()

    def test_the_last_few_tablets_are_all(self, float64):
        """Forty days of tablets equal the sum of forty single days, without their cost."""
        whole = self.level(hours(42), start=12.0, stop=12.0 + 40 * 24.0)
        days = [self.level(hours(42), start=12.0 + 24.0 * day, stop=36.0 + 24.0 * day) for day in range(40)]
        np.testing.assert_allclose(whole, sum(days), rtol=1e-8, atol=1e-6)

    @pytest.mark.parametrize("name", ["start", "stop", "clock", "dose"])
    def test_gradients(self, float64, name):
        """Also at whole days and hours, where tablets fall on the grid; `stop` there has a kink, so it is moved off."""
        point = {"start": 24.0, "stop": 24.0 * 6 + 5.0, "clock": 8.0, "dose": 20.0}
        weight = jnp.sin(jnp.arange(240.0))

        @jax.jit
        def score(value):
            return jnp.sum(weight * self.level(hours(10), **(point | {name: value})))

        nudge = 1e-5
        difference = float(score(point[name] + nudge) - score(point[name] - nudge)) / (2 * nudge)
        assert float(jax.grad(score)(point[name])) == pytest.approx(difference, rel=1e-5)
        assert float(jax.jvp(score, (point[name],), (1.0,))[1]) == pytest.approx(difference, rel=1e-5)

    def test_occupancy_of_the_dopamine_transporter(self):
        site = pharmacology.methylphenidate_constants().occupancy
        for dose in (5, 10, 20, 40, 60):
            inside(f"dat.mph.{dose}", pharmacology.transporter_occupancy(float(dose), site))


class TestDailyDrugs:
    def level(self, drug, days, dose=10.0, start=0.0, stop=1e4, factor=1.0):
        one = lambda value: jnp.asarray([value])
        return daily_concentration(hours(days), 1.0, one(dose), one(start), one(stop), drug, clearance_factor=factor)

    @pytest.mark.parametrize("drug", [pharmacology.ssri_constants, pharmacology.bupropion_constants])
    def test_the_level_settles_at_the_dose(self, drug):
        curve = self.level(drug(), 30)
        assert curve[-1] == pytest.approx(10.0, rel=1e-4)
        half = np.log(2) / float(drug().elimination_rate)
        assert curve[int(half)] == pytest.approx(5.0, rel=0.05)
        assert self.level(drug(), 30, factor=2.0)[-1] == pytest.approx(5.0, rel=1e-4)

    def test_a_period_that_ends_before_it_begins_gives_nothing(self):
        assert not self.level(pharmacology.ssri_constants(), 5, start=50.0, stop=40.0).any()

    def test_the_fitted_occupancies(self):
        ssri, bupropion = pharmacology.ssri_constants().occupancy, pharmacology.bupropion_constants().occupancy
        inside("sert.minimum", pharmacology.transporter_occupancy(10.0, ssri))
        inside("sert.plateau", pharmacology.transporter_occupancy(1e3, ssri))
        inside("dat.bup.2002", pharmacology.transporter_occupancy(300.0, bupropion))
        inside("dat.bup.2003", pharmacology.transporter_occupancy(300.0, bupropion))

    def test_competition_adds_odds(self, float64):
        a, b = 0.3, 0.55
        together = pharmacology.combine_occupancy(a, b)
        assert together / (1 - together) == pytest.approx(a / (1 - a) + b / (1 - b))
        assert pharmacology.combine_occupancy(a, 0.0) == pytest.approx(a)


def course(p, dose, start, factor):
    """Everything at once: one number that depends on every constant and every dose."""
    one = lambda value: jnp.asarray([value])
    ketamine, block, tablet, bupropion, ssri = p
    times = jnp.arange(0.0, 96.0)
    plasma = ketamine_concentration(
        jnp.append(times, times[-1] + 1), one(dose), one(start), one(0.65), ketamine, clearance_factor=factor
    )
    steady, rate = trapping_block.steady_block_and_rate(plasma, 0.01, block)
    mph = tablet_concentration(times, 1.0, one(40 * dose), one(8.0), one(start), one(80.5), tablet)
    bup = daily_concentration(times, 1.0, one(600 * dose), one(start), one(80.5), bupropion)
    escitalopram = daily_concentration(times, 1.0, one(20 * dose), one(start), one(80.5), ssri)
    dat = pharmacology.combine_occupancy(
        pharmacology.transporter_occupancy(mph, tablet.occupancy),
        pharmacology.transporter_occupancy(bup, bupropion.occupancy),
    )
    sert = pharmacology.transporter_occupancy(escitalopram, ssri.occupancy)
    weight = jnp.cos(times)
    return jnp.sum(weight * (steady * -jnp.expm1(-0.01 * rate) + dat + sert))


@pytest.mark.slow
def test_gradients_of_everything(float64):
    """Forward and reverse against central differences, along random directions through all constants and doses."""
    p = (
        pharmacology.ketamine_constants(),
        trapping_block.ketamine_block_constants(),
        pharmacology.methylphenidate_constants(),
        pharmacology.bupropion_constants(),
        pharmacology.ssri_constants(),
    )
    leaves, shape = jax.tree.flatten((p, 0.5, 3.3, 1.1))
    point = jnp.asarray([float(leaf) for leaf in leaves])
    score = jax.jit(lambda logs: course(*jax.tree.unflatten(shape, list(jnp.exp(logs)))))
    logs = jnp.log(point)
    gradient = jax.grad(score)(logs)
    for seed in range(3):
        direction = jnp.asarray(np.random.default_rng(seed).normal(size=len(point)))
        nudge = 1e-5
        difference = float(score(logs + nudge * direction) - score(logs - nudge * direction)) / (2 * nudge)
        assert float(jax.jvp(score, (logs,), (direction,))[1]) == pytest.approx(difference, rel=1e-6)
        assert float(gradient @ direction) == pytest.approx(difference, rel=1e-6)


def test_every_drug_reads_the_table():
    assert float(trapping_block.ketamine_block_constants().hill) == pytest.approx(
        constants.constant_value("ketamine_block.hill")
    )
    assert float(pharmacology.ssri_constants().occupancy.maximum) == pytest.approx(
        constants.constant_value("ssri.occupancy.maximum")
    )
