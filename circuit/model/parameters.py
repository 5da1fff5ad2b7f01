"""Everything that a subject is: one tree of constants, each with its unit in the class that uses it.

Every float is a leaf: batch it, fit it, or replace it. A leaf is a scalar, which all subjects share, or holds one value per
subject. The numbers come from the package's table of constants; `habenula.circuit.data.constants` says where each is from.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import dopamine, lateral_habenula, motivation, pharmacology, plasticity, trapping_block


class Parameters(eqx.Module):
    """The circuit's constants.

    Attributes:
        neuron: the LHb neuron; scalars, for the transfer function is distilled for one set of them.
        synapses: the habenula's input in vivo.
        dopamine: RMTg, VTA and accumbens.
        plasticity: what changes over days.
        motivation: wanting, liking and mood.
        ketamine: plasma kinetics.
        block: NMDA channel block by ketamine.
        methylphenidate, bupropion, ssri: kinetics and occupancy of oral drugs.
        clearance: clearance of every drug, over that of the typical subject.
    """

    neuron: lateral_habenula.Neuron
    synapses: plasticity.Synapses
    dopamine: dopamine.Dopamine
    plasticity: plasticity.Plasticity
    motivation: motivation.Motivation
    ketamine: pharmacology.KetamineKinetics
    block: trapping_block.ChannelBlock
    methylphenidate: pharmacology.TabletDrug
    bupropion: pharmacology.DailyDrug
    ssri: pharmacology.DailyDrug
    clearance: Float[Array, "*subject"]


def typical() -> Parameters:
    """The typical healthy subject: every constant a scalar."""
    return Parameters(
        neuron=lateral_habenula.neuron_constants(),
        synapses=plasticity.synapse_constants(),
        dopamine=dopamine.dopamine_constants(),
        plasticity=plasticity.plasticity_constants(),
        motivation=motivation.motivation_constants(),
        ketamine=pharmacology.ketamine_constants(),
        block=trapping_block.ketamine_block_constants(),
        methylphenidate=pharmacology.methylphenidate_constants(),
        bupropion=pharmacology.bupropion_constants(),
        ssri=pharmacology.ssri_constants(),
        clearance=jnp.asarray(1.0, jnp.result_type(float)),
    )


def per_subject_parameters(p: Parameters) -> Parameters:
    """The leaves that differ between subjects; the others None."""
    return eqx.filter(p, lambda leaf: leaf.ndim > 0)


def common_parameters(p: Parameters) -> Parameters:
    """The leaves that all subjects share; the others None."""
    return eqx.filter(p, lambda leaf: leaf.ndim == 0)


def select_subjects(p: Parameters, subjects) -> Parameters:
    """The parameters of some `subjects` (an index or a slice) of a cohort."""
    return jax.tree.map(lambda leaf: leaf[subjects] if leaf.ndim else leaf, p)
