"""The population from which tests of choice models draw people."""

import numpy as np

MEAN, SPREAD = np.array([1.0, 2.0, 2.0]), np.array([2.0, 1.5, 1.5])  # logit; people whose choices are mixed
NAMES = ("bias", "reward", "effort")
