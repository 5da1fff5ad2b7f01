"""`recover`: hidden parameters from observations, with uncertainty and identifiability."""

from . import clinical_scores as clinical_scores
from .free_parameters import with_values as with_values
from .likelihood import log_density as log_density
from .likelihood import recovery_problem as recovery_problem
from .observations import Binomial as Binomial
from .observations import Gaussian as Gaussian
from .observations import Observed as Observed
from .observations import Ordinal as Ordinal
from .observations import Poisson as Poisson
from .observations import simulate_observations as simulate_observations
from .recover import identifiable as identifiable
from .result import Recovery as Recovery
from .uncertainty import design as design
from .uncertainty import profile as profile
