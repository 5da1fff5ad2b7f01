"""Several lives of one cohort as lanes of one larger, which live one course: lane = life x subjects + subject.

Under a derivative the constants of the LHb neuron must stay plain numbers, as the transfer function is made for them: a
fit sets them aside as something static, and puts them back where the course begins.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..model.interventions import Arm, per_subject_mask
from .cohort import Cohort

NeuronConstants = tuple  # structure of the neuron's constants, and these; static


def without_neuron(cohort: Cohort) -> tuple[Cohort, NeuronConstants]:
    """The cohort without its neuron's constants, and these as something static."""
    constants, structure = jax.tree.flatten(cohort.parameters.neuron)
    bare = eqx.tree_at(lambda c: c.parameters.neuron, cohort, None)
    return bare, (structure, tuple(map(float, constants)))


def with_neuron(bare: Cohort, kept: NeuronConstants) -> Cohort:
    """The inverse of `without_neuron`."""
    structure, constants = kept
    neuron = jax.tree.unflatten(structure, [np.asarray(value, jnp.result_type(float)) for value in constants])
    return eqx.tree_at(lambda c: c.parameters.neuron, bare, neuron, is_leaf=lambda leaf: leaf is None)


def repeat_cohort(cohort: Cohort, times: int) -> Cohort:
    """The same subjects, so many times."""
    return jax.tree.map(lambda leaf: jnp.tile(leaf, times) if leaf.ndim else leaf, cohort)


def repeat_arm(arm: Arm, times: int) -> Arm:
    """Their arm: what is each subject's own, so many times."""
    return jax.tree.map(lambda leaf, own: jnp.tile(leaf, times) if own else leaf, arm, per_subject_mask(arm))
