"""Virtual subjects for the brain's anti-reward circuit: lateral habenula, RMTg, dopamine, under prefrontal control.

The main path is four lines:

    cohort = draw(depressed(), subjects=1024, seed=1)                       # who
    seen = course(cohort, (Ketamine(mg_per_kg=0.5, day=7.0),), days=28)     # weeks, by the hour
    now = moment(cohort, seconds=2.0)                                       # seconds, by the quarter of a millisecond
    fit = restore(cohort, Recalibration.weekly(), over=("intensity", "times"))

and back, from what was observed to what was hidden:

    found = recover(cohort, arm, data, over=("mg_per_kg",))
"""

if __name__ == "circuit":
    raise ImportError("import habenula.circuit, not circuit; pip install -e . once")

from ..kernels import Plan as Plan
from ..kernels import multiprocess as multiprocess
from .behaviour.choices import Choices as Choices
from .behaviour.choices import read as read
from .behaviour.effort import Preferences as Preferences
from .behaviour.effort_tasks import eefrt as eefrt
from .behaviour.effort_tasks import play as play
from .behaviour.effort_tasks import staircases as staircases
from .behaviour.pavlovian import Trials as Trials
from .behaviour.pavlovian import conduct as conduct
from .behaviour.pavlovian import pavlovian as pavlovian
from .behaviour.td_learning import Learner as Learner
from .behaviour.td_learning import anticipate as anticipate
from .behaviour.td_learning import expect as expect
from .behaviour.td_learning import learner as learner
from .behaviour.td_learning import log_anticipation as log_anticipation
from .choice_models.fit import ChoiceFit as ChoiceFit
from .choice_models.fit import fit_choices as fit_choices
from .choice_models.latent_regression import Slope as Slope
from .choice_models.latent_regression import relate as relate
from .fitting.dose_spacing import Limits as Limits
from .inference import clinical_scores as clinical_scores
from .inference.free_parameters import put as put
from .inference.likelihood import ask as ask
from .inference.likelihood import log_density as log_density
from .inference.observations import Binomial as Binomial
from .inference.observations import Gaussian as Gaussian
from .inference.observations import Observed as Observed
from .inference.observations import Ordinal as Ordinal
from .inference.observations import Poisson as Poisson
from .inference.observations import measure as measure
from .inference.recover import identifiable as identifiable
from .inference.recover import recover as recover
from .inference.result import Recovery as Recovery
from .inference.uncertainty import design as design
from .inference.uncertainty import profile as profile
from .model.interventions import SSRI as SSRI
from .model.interventions import Bupropion as Bupropion
from .model.interventions import Ketamine as Ketamine
from .model.interventions import Methylphenidate as Methylphenidate
from .model.interventions import Placebo as Placebo
from .model.interventions import Recalibration as Recalibration
from .model.interventions import Stress as Stress
from .model.parameters import Parameters as Parameters
from .model.parameters import typical as typical
from .optimisation.pareto import Front as Front
from .optimisation.pareto import pareto as pareto
from .optimisation.restore import Restoration as Restoration
from .optimisation.restore import restore as restore
from .optimisation.target import Target as Target
from .simulation.cohort import Cohort as Cohort
from .simulation.conditions import Condition as Condition
from .simulation.conditions import as_healthy as as_healthy
from .simulation.conditions import depressed as depressed
from .simulation.conditions import draw as draw
from .simulation.conditions import healthy as healthy
from .simulation.conditions import healthy_output as healthy_output
from .simulation.conditions import resilient as resilient
from .simulation.course import Course as Course
from .simulation.course import course as course
from .simulation.decisions import choose as choose
from .simulation.decisions import draw_preferences as draw_preferences
from .simulation.decisions import initiate as initiate
from .simulation.fixed_points import FixedPoint as FixedPoint
from .simulation.fixed_points import fixed_points as fixed_points
from .simulation.moment import Event as Event
from .simulation.moment import Moment as Moment
from .simulation.moment import moment as moment
from .simulation.planner import Forecast as Forecast
from .simulation.planner import plan as plan
from .simulation.session import Session as Session
from .simulation.session import Timing as Timing
from .simulation.session import session as session
from .simulation.streamed_course import Survey as Survey
from .simulation.streamed_course import survey as survey
