"""Who takes part in the experiments for the scoreboard; each group is made when an experiment first asks for it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import SupportsFloat

import jax.numpy as jnp

from ....kernels import Plan
from ...model.interventions import SSRI, Arm, Bupropion, Ketamine, Methylphenidate
from ...model.parameters import typical
from ...simulation.cohort import Cohort
from ...simulation.conditions import depressed, draw, healthy, resilient
from ...simulation.course import Course, course
from ..arms import MORNING, NOON, align_arms

COHORT_SIZE = 128
COURSE_DAYS = 56.0
COURSE_RECORD = ("vta_output", "active", "rate", "dopamine", "liking", "mood", "rmtg")
DAT_OCCUPANCY = 0.6  # at its peak in the typical subject, by the stimulant's single dose

Figures = Mapping[str, SupportsFloat]  # what an experiment gives: by row of the evidence, in the row's unit


@dataclasses.dataclass(frozen=True)
class ExperimentCohorts:
    """Subjects of one seed.

    Attributes:
        seed: names subjects and noise.
        devices: over how many devices subjects are divided.
    """

    seed: int = 0
    devices: int = 1

    @functools.cached_property
    def well(self) -> Cohort:
        """Healthy subjects."""
        return draw(healthy(), COHORT_SIZE, self.seed, plan=self.plan)

    @functools.cached_property
    def ill(self) -> Cohort:
        """Susceptible subjects, two weeks after chronic stress."""
        return draw(depressed(), COHORT_SIZE, self.seed, plan=self.plan)

    @functools.cached_property
    def spared(self) -> Cohort:
        """Resilient subjects, after the same stress."""
        return draw(resilient(), COHORT_SIZE, self.seed, plan=self.plan)

    @functools.cached_property
    def exposed(self) -> Cohort:
        """Subjects like the healthy ones, two weeks after the same stress."""
        return draw(depressed(susceptibility=0.0), COHORT_SIZE, self.seed, plan=self.plan)

    @functools.cached_property
    def courses(self) -> dict[str, Course]:
        """Eight weeks: of the healthy subjects, and by arm of the ill ones. All run through one compiled program."""
        arms = align_arms(treatment_arms())
        live = lambda cohort, arm: course(cohort, arm, COURSE_DAYS, save_every=4, record=COURSE_RECORD, plan=self.plan)
        treated = {name: live(self.ill, arm) for name, arm in arms.items()}
        return {"healthy": live(self.well, arms["untreated"])} | treated

    @property
    def plan(self) -> Plan:
        """How cohorts use the hardware."""
        return Plan(tile=COHORT_SIZE, devices=self.devices)


def treatment_arms() -> dict[str, Arm]:
    """The arms: nothing, an SSRI at its minimum dose, bupropion, ketamine once, and a stimulant at one and two doses."""
    site = typical().methylphenidate.occupancy
    mg = float(site.half * (DAT_OCCUPANCY / (site.maximum - DAT_OCCUPANCY)) ** (1 / site.hill))
    tablets = lambda mg: Methylphenidate(jnp.full(2, mg), jnp.asarray([MORNING, NOON]))
    return {
        "untreated": (),
        "ssri": (SSRI(10.0),),
        "bupropion": (Bupropion(300.0),),
        "ketamine": (Ketamine(0.5, 0.0),),
        "stimulant": (tablets(mg),),
        "stimulant_double": (tablets(2 * mg),),
    }
