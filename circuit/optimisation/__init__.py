"""`restore` and `pareto`: the regimen that brings VTA output to a target."""

from .pareto import Front as Front
from .pareto import FrontPoint as FrontPoint
from .problem import RegimenProblem as RegimenProblem
from .problem import make_regimen_problem as make_regimen_problem
from .restore import Restoration as Restoration
from .settings import Multistart as Multistart
from .settings import RegimenLoss as RegimenLoss
from .target import Target as Target
