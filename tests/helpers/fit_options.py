"""Options of a fit as one flat dictionary, so that a test can change one of them."""

import dataclasses

from habenula.circuit.optimisation.settings import Multistart, RegimenLoss


def grouped(**options):
    """Keyword arguments of `restore` and `pareto`: those of `Multistart` and `RegimenLoss` collected in their records."""
    for name, record in (("search", Multistart), ("loss", RegimenLoss)):
        fields = [field.name for field in dataclasses.fields(record) if field.name in options]
        if fields:
            options[name] = record(**{field: options.pop(field) for field in fields})
    return options
