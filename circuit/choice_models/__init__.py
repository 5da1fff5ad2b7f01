"""Hierarchical fits of people's choices. Needs no circuit."""

from .fit import ChoiceFit as ChoiceFit
from .fit import fit_choices as fit_choices
from .latent_regression import RegressionSlope as RegressionSlope
from .latent_regression import regress_latent as regress_latent
