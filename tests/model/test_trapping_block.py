"""Ketamine in the channel, against published rates, a stiff solver of the same equation, and its limits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import inside
from scipy.integrate import solve_ivp

from habenula.circuit.model import trapping_block
from habenula.circuit.model.trapping_block import (
    SAMPLES_PER_STEP,
    OpenShareCurve,
    advance_block,
    interpolate_open_share,
    lookup_spacing,
)


def changed(**shares):
    """Ketamine's block with some constants replaced."""
    block = trapping_block.ketamine_block_constants()
    return eqx.tree_at(
        lambda b: [getattr(b, name) for name in shares], block, [jnp.asarray(x) for x in shares.values()]
    )


class TestBlock:
    def test_the_published_rates(self):
        block = trapping_block.ketamine_block_constants()
        steady, rate = trapping_block.steady_block_and_rate(1.0, 1.0, block)
        inside("ket.block.kon", steady * rate / 3600)
        inside("ket.block.koff", block.off_rate / 3600)
        inside("ket.block.ic50", block.half_concentration)
        inside("ket.block.hill", block.hill)
        half, _ = trapping_block.steady_block_and_rate(block.half_concentration, 1.0, block)
        assert float(half) == pytest.approx(0.5, rel=1e-4)

    @pytest.mark.parametrize("trapping", [0.0, 0.6, 1.0])
    @pytest.mark.parametrize("open_share", [0.0, 0.001, 0.2, 1.0])
    @pytest.mark.parametrize("turnover", [0.0, 0.02])
    def test_the_steady_block_is_where_the_flow_stops(self, float64, trapping, open_share, turnover):
        block = changed(trapping=trapping, turnover=turnover)
        steady, rate = (float(each) for each in trapping_block.steady_block_and_rate(0.8, open_share, block))
        on = float(block.off_rate * (0.8 / block.half_concentration) ** block.hill)
        leaving = float((trapping * open_share + 1 - trapping) * block.off_rate) + turnover
        assert open_share * on * (1 - steady) == pytest.approx(leaving * steady, rel=1e-5)
        assert rate == pytest.approx(open_share * on + leaving, rel=1e-5)

    def test_a_closed_channel_keeps_a_trapped_drug_and_loses_a_free_one(self):
        steady, rate = trapping_block.steady_block_and_rate(0.5, 0.0, changed(trapping=1.0, turnover=0.0))
        assert rate == 0.0
        assert 0 < steady < 1, "the steady block of any activity, however small"
        free = changed(trapping=0.0, turnover=0.0)
        assert trapping_block.steady_block_and_rate(0.5, 0.0, free)[1] == free.off_rate

    @pytest.mark.parametrize("open_share", [0.0, 0.3])
    @pytest.mark.parametrize("concentration", [0.0, 1e-8, 0.7])
    @pytest.mark.parametrize("turnover", [0.0, 0.02])
    def test_gradients_are_finite_without_drug_and_without_activity(self, concentration, open_share, turnover):
        def blocked(c, f, block):
            steady, rate = trapping_block.steady_block_and_rate(c, f, block)
            return 0.3 * jnp.exp(-rate) - steady * jnp.expm1(-rate)

        gradients = jax.grad(blocked, (0, 1, 2))(concentration, open_share, changed(turnover=turnover))
        assert all(jnp.isfinite(leaf) for leaf in jax.tree.leaves(gradients))


SLOPE, CURVATURE = -17.0, -12.0  # of the logarithm of the open share in the block, near what the habenula does


APART = 0.1  # between the blocks of which the open share is given


def falling(level, slope=SLOPE, curvature=CURVATURE, drift=0.0):
    """A parabola, as differences."""
    bent = curvature * APART**2
    return OpenShareCurve(*(jnp.full(1, x) for x in (level, slope * APART + bent, 2 * bent, 0.0, APART, drift)))


def whole(p, block, concentration, level, drift=0.0):
    """An hour of the same equation by an implicit solver, reading by reading."""
    off, lost = float(p.off_rate * p.trapping), float(p.off_rate * (1 - p.trapping) + p.turnover)
    b = block
    for i, c in enumerate(concentration):
        on = float(p.off_rate * (c / p.half_concentration) ** p.hill)

        def flow(t, b, on=on):
            x = b[0] - block
            f = np.exp(min(level + SLOPE * x + CURVATURE * x**2 + drift * t, 0.0))
            return [f * (on * (1 - b[0]) - off * b[0]) - lost * b[0]]

        b = solve_ivp(flow, (i / SAMPLES_PER_STEP, (i + 1) / SAMPLES_PER_STEP), [b], "Radau", rtol=1e-9, atol=1e-12).y[
            0, -1
        ]
    return b


@pytest.mark.parametrize("level", [-9.0, -6.0, -4.0])
@pytest.mark.parametrize(("block", "concentration"), [(0.0, (0.0, 0.9, 1.1, 0.6)), (0.35, (0.02, 0.02, 0.0, 0.0))])
@pytest.mark.parametrize("trapping", [1.0, 0.0])
def test_the_block_follows_its_equation(float64, level, block, concentration, trapping):
    """At every open share, also where the first seconds of an infusion shut the channels."""
    p = changed(trapping=trapping)
    readings = jnp.asarray(concentration)[:, None]
    found = advance_block(jnp.full(1, block), readings, falling(level, drift=-0.3), 1.0, p)
    assert float(found[0]) == pytest.approx(whole(p, block, concentration, level, -0.3), abs=6e-3)


def test_substeps_converge(float64, monkeypatch):
    p, concentration = changed(), (0.2, 0.9, 1.1, 0.6)
    exact = whole(p, 0.0, concentration, -7.0)

    def error(substeps):
        monkeypatch.setattr(trapping_block, "SUBSTEPS_PER_SAMPLE", substeps)
        return abs(
            float(advance_block(jnp.zeros(1), jnp.asarray(concentration)[:, None], falling(-7.0), 1.0, p)[0]) - exact
        )

    assert error(64) < error(16) / 8, "second order: a sixteenth, or near it"


@pytest.mark.parametrize(("begin", "concentration"), [(0.0, 1.0), (0.4, 0.0), (0.0, 0.0)])
def test_a_cubic_is_looked_up_exactly(float64, begin, concentration):
    """Whichever way the block moves, with its slope and what else has changed."""
    cubic = np.polynomial.Polynomial([-4.0, -15.0, -9.0, 3.0])
    block, readings = jnp.full(1, begin), jnp.full((SAMPLES_PER_STEP, 1), concentration)
    apart = lookup_spacing(block, readings, changed())
    looked = cubic(begin + np.arange(4)[:, None] * np.asarray(apart)) + 0.3
    at = jnp.full(1, cubic(begin))
    share = interpolate_open_share(at - 0.7, at, jnp.asarray(looked), apart)
    value, slope = share.at(jnp.full(1, 0.05), jnp.ones(1))
    np.testing.assert_allclose(value, cubic(begin + 0.05) - 0.7 + 0.3, rtol=1e-9)
    np.testing.assert_allclose(slope, cubic.deriv()(begin + 0.05), rtol=1e-7)


def test_constants_may_differ_between_subjects(float64):
    """Each lane of a block with constants per subject is that of the subject alone."""
    count, generator = 3, np.random.default_rng(0)
    factor = generator.uniform(0.5, 1.0, size=(5, count))
    shared = changed()
    own = jax.tree.map(
        lambda leaf, by: jnp.asarray(leaf * by), shared, jax.tree.unflatten(jax.tree.structure(shared), list(factor))
    )
    block, level = jnp.asarray(generator.uniform(0, 0.4, count)), jnp.full(count, -6.0)
    readings = jnp.asarray(generator.uniform(0, 1.0, (SAMPLES_PER_STEP, count)))
    share = jax.tree.map(lambda leaf: jnp.tile(leaf, count), eqx.tree_at(lambda s: s.level, falling(0.0), level[:1]))

    def everything(block, readings, share, p):
        return (
            *trapping_block.steady_block_and_rate(readings[0], 0.1, p),
            lookup_spacing(block, readings, p),
            advance_block(block, readings, share, 1.0, p),
        )

    together = everything(block, readings, share, own)
    for i in range(count):
        alone = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], each) for each in (block, share, own)]
        for found, expected in zip(together, everything(alone[0], readings[:, i : i + 1], *alone[1:]), strict=True):
            np.testing.assert_allclose(found[i : i + 1], expected, rtol=1e-12)


def test_trapping_alone_keeps_a_block_for_hours_not_days():
    """Loading and unloading pass the same channels: how long a block lasts follows from how long it was taken up."""
    p = changed(turnover=0.0)
    ln_f = lambda b: -5.0 - 20.0 * b
    block = full = advance_block(jnp.zeros(1), jnp.full((SAMPLES_PER_STEP, 1), 1.0), falling(-5.0, -20.0, 0.0), 1.0, p)
    hours = 0
    while float(block[0]) > float(full[0]) / 2:
        block = advance_block(
            block, jnp.zeros((SAMPLES_PER_STEP, 1)), falling(ln_f(float(block[0])), -20.0, 0.0), 1.0, p
        )
        hours += 1
    assert 3 < hours < 24


@pytest.mark.parametrize("level", [-20.0, -6.0, 0.0])
@pytest.mark.parametrize("concentration", [0.0, 1.0])
def test_gradients_are_finite(float64, level, concentration):
    def after(block, concentration, level, p):
        share = falling(0.0)
        share = eqx.tree_at(lambda s: s.level, share, level)
        return advance_block(block, concentration, share, 1.0, p).sum()

    at = jnp.full(1, 0.2), jnp.full((SAMPLES_PER_STEP, 1), concentration), jnp.full(1, level), changed()
    forward = jax.jvp(after, at, jax.tree.map(jnp.ones_like, at))[1]
    reverse = jax.grad(after, (0, 1, 2, 3))(*at)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((forward, reverse)))
    np.testing.assert_allclose(forward, sum(leaf.sum() for leaf in jax.tree.leaves(reverse)), rtol=1e-9)
