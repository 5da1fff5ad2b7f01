"""Naming what is unknown: leaves of the arm, the parameters and the state."""

import numpy as np
import pytest
from people import strained as new_people

from habenula.circuit.fitting.bijections import Positive
from habenula.circuit.inference.free_parameters import current_values, make_prior, resolve_free_parameters, with_values
from habenula.circuit.model.interventions import Ketamine, Stress

ARM = (Ketamine([0.5, 0.3], [1.0, 3.0]), Stress(1.0, 0.0, 2.0))

PEOPLE = {}


def strained(subjects):
    """Made once: nothing changes them."""
    return PEOPLE.setdefault(subjects, new_people(subjects))


def one(name, arm=ARM, bounds=None):
    return resolve_free_parameters(strained(3), arm, {name: "subject"}, bounds or {}, days=7.0)[0]


@pytest.mark.parametrize(
    ("name", "part", "path"),
    [
        ("mg_per_kg", "arm", "mg_per_kg"),
        ("Ketamine.day", "arm", "day"),
        ("severity", "arm", "severity"),
        ("plasticity.depression_rate", "parameters", "plasticity.depression_rate"),
        ("depression_rate", "parameters", "plasticity.depression_rate"),
        ("clearance", "parameters", "clearance"),
        ("block", "state", "block"),
        ("state.control", "state", "control"),
    ],
)
def test_a_name_finds_its_leaf(name, part, path):
    found = one(name)
    assert (found.part, found.path) == (part, path)


def test_doses_have_names_of_their_own():
    assert one("mg_per_kg").labels == ("mg_per_kg[0]", "mg_per_kg[1]")
    assert one("severity").labels == ("severity",)


@pytest.mark.parametrize(
    ("over", "bounds", "message"),
    [
        ((), {}, "at least one leaf"),
        (("dose",), {}, "'dose' is no leaf; choose from Ketamine.mg_per_kg"),
        (("control",), {}, "'control' is ambiguous; choose from synapses.control, state.control"),
        (("occupancy.half",), {}, r"ambiguous; choose from methylphenidate.occupancy.half, bupropion"),
        ({"mg_per_kg": "everyone"}, {}, "must say one of shared, subject, population"),
        (("mg_per_kg", "Ketamine.mg_per_kg"), {}, "names a leaf twice"),
        (("mg_per_kg",), {"day": (0.0, 1.0)}, r"bounds for \['day'\], which are not recovered"),
        (("mg_per_kg",), {"mg_per_kg": (0.0, 9.0)}, "between 0 and 2"),
        (("neuron.leak",), {}, "neuron.leak"),
    ],
)
def test_names_that_mean_nothing_are_refused(over, bounds, message):
    with pytest.raises(ValueError, match=message):
        resolve_free_parameters(strained(3), ARM, over, bounds, days=7.0)


def test_constants_of_the_neuron_cannot_be_recovered():
    name = f"neuron.{next(iter(vars(strained(1).parameters.neuron)))}"
    with pytest.raises(ValueError, match="the transfer function holds for fixed constants"):
        one(name)


def test_values_are_put_where_they_were_named():
    cohort, arm = with_values(
        strained(3), ARM, {"mg_per_kg": [0.1, 0.2], "gain": 1.5, "clearance": [1.0, 2.0, 3.0], "severity": 0.5}
    )
    infusions, strain = arm
    assert isinstance(infusions, Ketamine)
    assert isinstance(strain, Stress)
    np.testing.assert_allclose(infusions.mg_per_kg, [0.1, 0.2])
    np.testing.assert_allclose(cohort.state.gain, [1.5, 1.5, 1.5])
    np.testing.assert_allclose(cohort.parameters.clearance, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(strain.severity, 0.5)


def test_one_number_is_that_of_every_dose():
    _, (infusions, _strain) = with_values(strained(3), ARM, {"mg_per_kg": 0.3})
    assert isinstance(infusions, Ketamine)
    np.testing.assert_allclose(infusions.mg_per_kg, [0.3])


def test_the_prior_stands_around_what_is_given():
    people = strained(3)
    unknowns = resolve_free_parameters(people, ARM, {"mg_per_kg": "subject", "clearance": "subject"}, {}, days=7.0)
    belief = make_prior(unknowns, people, ARM, {"clearance": (2.0, 0.1)})
    assert belief.centre.shape == (3, 3)
    np.testing.assert_allclose(
        unknowns[0].scale.constrain(belief.centre[:2]), current_values(unknowns[0], people, ARM), rtol=1e-5
    )
    assert isinstance(unknowns[1].scale, Positive)
    np.testing.assert_allclose(belief.centre[2], np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(belief.spread, [1.5, 1.5, 0.1])


@pytest.mark.parametrize(
    ("over", "prior", "message"),
    [
        ("mg_per_kg", {"day": (1.0, 1.0)}, r"prior for \['day'\], which are not recovered"),
        ("mg_per_kg", {"mg_per_kg": (1.0, 0.0)}, "spread 0.0, which must be positive"),
        ("mg_per_kg", {"mg_per_kg": (5.0, 1.0)}, "mg_per_kg = 5 must lie between 0 and 2"),
        ("clearance", {}, "clearance differs between subjects"),
    ],
)
def test_beliefs_that_mean_nothing_are_refused(over, prior, message):
    people = strained(3)
    with pytest.raises(ValueError, match=message):
        make_prior(resolve_free_parameters(people, ARM, (over,), {}, days=7.0), people, ARM, prior)
