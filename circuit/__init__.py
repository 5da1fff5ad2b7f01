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
from ..kernels import processes as processes
from . import clinical as clinical
from .behaviour import choose as choose
from .behaviour import draw_preferences as draw_preferences
from .behaviour import initiate as initiate
from .choice_fit import ChoiceFit as ChoiceFit
from .choice_fit import fit_choices as fit_choices
from .choices import Choices as Choices
from .choices import read as read
from .cohort import Cohort as Cohort
from .conclusion import Recovery as Recovery
from .conditions import Condition as Condition
from .conditions import as_healthy as as_healthy
from .conditions import depressed as depressed
from .conditions import draw as draw
from .conditions import healthy as healthy
from .conditions import healthy_output as healthy_output
from .conditions import resilient as resilient
from .effort import Preferences as Preferences
from .fit import Restoration as Restoration
from .fit import restore as restore
from .interventions import SSRI as SSRI
from .interventions import Bupropion as Bupropion
from .interventions import Ketamine as Ketamine
from .interventions import Methylphenidate as Methylphenidate
from .interventions import Placebo as Placebo
from .interventions import Recalibration as Recalibration
from .interventions import Stress as Stress
from .latent_regression import Slope as Slope
from .latent_regression import relate as relate
from .learning import Learner as Learner
from .learning import anticipate as anticipate
from .learning import expect as expect
from .learning import learner as learner
from .learning import log_anticipation as log_anticipation
from .moment import Event as Event
from .moment import Moment as Moment
from .moment import moment as moment
from .objective import Target as Target
from .observations import Binomial as Binomial
from .observations import Gaussian as Gaussian
from .observations import Observed as Observed
from .observations import Ordinal as Ordinal
from .observations import Poisson as Poisson
from .observations import measure as measure
from .parameters import Parameters as Parameters
from .parameters import typical as typical
from .pareto import Front as Front
from .pareto import pareto as pareto
from .pavlovian import Trials as Trials
from .pavlovian import conduct as conduct
from .pavlovian import pavlovian as pavlovian
from .planner import Forecast as Forecast
from .planner import plan as plan
from .prediction import ask as ask
from .prediction import log_density as log_density
from .recovery import identifiable as identifiable
from .recovery import recover as recover
from .session import Session as Session
from .session import Timing as Timing
from .session import session as session
from .set_points import FixedPoint as FixedPoint
from .set_points import fixed_points as fixed_points
from .simulate import Course as Course
from .simulate import course as course
from .spacing import Limits as Limits
from .survey import Survey as Survey
from .survey import survey as survey
from .tasks import eefrt as eefrt
from .tasks import play as play
from .tasks import staircases as staircases
from .uncertainty import design as design
from .uncertainty import profile as profile
from .unknowns import put as put
