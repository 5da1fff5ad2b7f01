"""Cohorts in time: courses (hours to months), moments (milliseconds to minutes) and sessions (trials)."""

from .cohort import Cohort as Cohort
from .conditions import Condition as Condition
from .course import Course as Course
from .course import observe_cohort as observe_cohort
from .decisions import draw_preferences as draw_preferences
from .decisions import modulate_by_circuit as modulate_by_circuit
from .decisions import predict_initiation as predict_initiation
from .decisions import simulate_choices as simulate_choices
from .fixed_points import FixedPoint as FixedPoint
from .moment import Event as Event
from .moment import Moment as Moment
from .planner import Forecast as Forecast
from .planner import forecast as forecast
from .session import Session as Session
from .session import Timing as Timing
from .streamed_course import StreamedCourse as StreamedCourse
