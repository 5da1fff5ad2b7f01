"""How the arms of a trial are called and coloured, the same in every table and figure.

Colours are those of Okabe & Ito (2008), which people with any colour vision tell apart; arms of one kind share a hue.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple


class ArmLabel(NamedTuple):
    """How one arm is shown.

    Attributes:
        text: its name in words, short enough for a table.
        colour: hexadecimal.
        contrast: the arm beside which this one is to be read; empty for a treatment of its own.
    """

    text: str
    colour: str
    contrast: str = ""


# In the order of tables: from no action on the gate to the most lasting one.
ARM_LABELS = {
    "placebo": ArmLabel("Placebo", "#4D4D4D"),
    "ssri": ArmLabel("SSRI", "#56B4E9"),
    "bupropion": ArmLabel("Bupropion", "#E69F00"),
    "bupropion_double": ArmLabel("Bupropion, double dose", "#E69F00", "bupropion"),
    "methylphenidate": ArmLabel("Methylphenidate", "#D55E00"),
    "methylphenidate_double": ArmLabel("Methylphenidate, double", "#D55E00", "methylphenidate"),
    "ketamine_once": ArmLabel("Ketamine once", "#CC79A7"),
    "ketamine_repeated": ArmLabel("Ketamine twice a week", "#8F3A73"),
    "recalibration": ArmLabel("Recalibration", "#009E73"),
    "recalibration_at_rest": ArmLabel("Recalibration at rest", "#009E73", "recalibration"),
    "ketamine_recalibration": ArmLabel("Ketamine + recalibration", "#0072B2"),
}

# What is fitted in a trial and is no arm of it.
REGIMEN_LABELS = {"ketamine": ArmLabel("Ketamine", ARM_LABELS["ketamine_repeated"].colour)}


def label_of(name: str) -> ArmLabel:
    """The label of an arm or a regimen; one that is not listed is shown in black by its own name."""
    return (ARM_LABELS | REGIMEN_LABELS).get(name, ArmLabel(name.replace("_", " "), "#000000"))


def sort_arms(arms: Sequence[str]) -> list[str]:
    """`arms` in the order of tables; unknown ones last."""
    known = list(ARM_LABELS)
    return sorted(arms, key=lambda arm: known.index(arm) if arm in ARM_LABELS else len(known))


def parse_arms(text: str) -> list[str] | None:
    """The arms in a comma list; None, which is all of them, for an empty one.

    >>> parse_arms("placebo, ketamine_once")
    ['placebo', 'ketamine_once']

    Raises:
        ValueError: an arm that does not exist, or one given twice; the message names the nearest.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ARM_LABELS:
            near = get_close_matches(name, ARM_LABELS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(ARM_LABELS)}."
            raise ValueError(f"no arm is called {name!r}; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"arm {name!r} is given {names.count(name)} times; name each once.")
    return names or None
