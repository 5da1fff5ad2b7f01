"""Tasks, learning and choice: pure functions of one subject, without the circuit."""

from .choices import Choices as Choices
from .choices import read_choices as read_choices
from .choices import read_scores as read_scores
from .choices import write_choices as write_choices
from .conditioning import Trials as Trials
from .conditioning import pavlovian as pavlovian
from .conditioning import schedule_trials as schedule_trials
from .effort import Preferences as Preferences
from .effort_tasks import EffortTask as EffortTask
from .effort_tasks import eefrt as eefrt
from .effort_tasks import run_task as run_task
from .effort_tasks import staircases as staircases
from .td_learning import Learner as Learner
from .td_learning import anticipation_log_likelihood as anticipation_log_likelihood
from .td_learning import default_learner as default_learner
from .td_learning import expected_values as expected_values
from .td_learning import simulate_anticipation as simulate_anticipation
