"""`restore` and `pareto`: the regimen that brings VTA output to a target."""

from .pareto import Front as Front
from .restore import Restoration as Restoration
from .target import Target as Target
