"""Fit what lies downstream of the habenula: the pause of dopamine neurons, and the healthy reference levels.

    python -m habenula.circuit.calibration.downstream

The pause after one synchronous habenular volley (Ji & Shepard 2007: about 85 ms, 97 % of cells) fixes the gain and the
decay of the RMTg's GABA-A action, on a grid whose points are the lanes of one run. The reference levels are the typical
healthy subject's, at the stable set point; to be run again whenever a constant of the slow clock changes.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...kernels import Plan
from ..data import constants
from ..model.parameters import Parameters, typical
from ..model.slow_clock import SlowState
from ..simulation.cohort import Cohort
from ..simulation.fixed_points import fixed_points, with_reference_levels
from ..simulation.moment import Moment, moment, pause_after_volley, synchronous_volley
from .options import make_parser

SCRIPT = "habenula.circuit.calibration.downstream"
TARGET_PAUSE = 85.0  # ms, Ji & Shepard 2007
GABA_GAIN_BOUNDS = (0.02, 0.5)  # Hz / Hz
GABA_TIME_BOUNDS = (5.0, 40.0)  # ms


def replicate_subject(p: Parameters, state: SlowState, subjects: int) -> Cohort:
    """`subjects` copies of one subject at the slow `state` of one lane, with a noise path each."""
    states = SlowState(**{name: jnp.broadcast_to(leaf, (subjects,)) for name, leaf in vars(state).items()})
    return Cohort(jnp.arange(subjects, dtype=jnp.uint32), p, states, jnp.uint32(0))


def simulate_volley(cohort: Cohort, plan: Plan | None = None) -> Moment:
    """One second with a synchronous volley in the middle."""
    return moment(cohort, 1.0, events=(synchronous_volley(),), plan=plan)


def fit_pause(p: Parameters, state: SlowState, points: int = 8) -> tuple[float, float, float]:
    """The (gain, decay) on the grid whose pause is nearest to the published one, and that pause, each over four noise paths."""
    gains, times = (
        grid.ravel().repeat(4)
        for grid in np.meshgrid(*(np.geomspace(*bounds, points) for bounds in (GABA_GAIN_BOUNDS, GABA_TIME_BOUNDS)))
    )
    where = lambda p: (p.dopamine.gaba_gain, p.dopamine.gaba_time)
    candidates = eqx.tree_at(where, p, (jnp.asarray(gains, jnp.float32), jnp.asarray(times, jnp.float32)))
    length, lost = pause_after_volley(simulate_volley(replicate_subject(candidates, state, len(gains))))
    length, lost = length.reshape(-1, 4).mean(axis=1), lost.reshape(-1, 4).mean(axis=1)
    best = int(
        np.argmin(np.abs(length - TARGET_PAUSE) + 1e3 * np.maximum(0.97 - lost, 0) + 0.1 * np.abs(times[::4] - 15))
    )
    return float(gains[4 * best]), float(times[4 * best]), float(length[best])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print and write to the table."""
    parser = make_parser(SCRIPT, main.__doc__)
    parser.add_argument("--points", type=int, default=8, help="of the grid, along gain and decay each")
    chosen = parser.parse_args(arguments)
    p = with_reference_levels(typical())
    seen = float(p.motivation.reference_output), float(p.motivation.reference_dopamine)
    gain, time, length = fit_pause(p, fixed_points(p)[0].state, chosen.points)
    print(f"healthy set point: VTA output {seen[0]:.3f} Hz, dopamine {1e3 * seen[1]:.2f} nM")
    print(f"GABA-A gain {gain:.3f} Hz/Hz, decay {time:.1f} ms: pause {length:.0f} ms (published {TARGET_PAUSE:.0f})")
    constant = constants.Constant
    constants.update_constants(
        [
            constant("motivation.reference_output", seen[0], "Hz", "fitted", SCRIPT, "typical healthy set point"),
            constant("motivation.reference_dopamine", seen[1], "uM", "fitted", SCRIPT, "typical healthy set point"),
            constant("dopamine.gaba_gain", gain, "Hz/Hz", "fitted", SCRIPT, "pause after a volley, Ji & Shepard 2007"),
            constant("dopamine.gaba_time", time, "ms", "fitted", SCRIPT, "pause after a volley, Ji & Shepard 2007"),
        ],
        chosen.table,
    )


if __name__ == "__main__":
    main()
