"""Hierarchical models of effort choices: fit by empirical Bayes, identifiability, regression on scores. Needs no circuit."""

from .fit import ChoiceFit as ChoiceFit
from .fit import SubjectEstimates as SubjectEstimates
from .fit import fit_choices as fit_choices
from .identifiability import Identifiability as Identifiability
from .identifiability import assess_identifiability as assess_identifiability
from .latent_regression import RegressionSlope as RegressionSlope
from .latent_regression import regress_latent as regress_latent
from .population_parameters import PopulationParameter as PopulationParameter
