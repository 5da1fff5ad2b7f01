"""How the arms of a trial are called and coloured, the same in every table and figure.

Colours are those of Okabe & Ito (2008), which people with any colour vision tell apart; arms of one kind share a hue.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple


class Label(NamedTuple):
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
ARMS = {
    "placebo": Label("Placebo", "#4D4D4D"),
    "ssri": Label("SSRI", "#56B4E9"),
    "bupropion": Label("Bupropion", "#E69F00"),
    "bupropion_double": Label("Bupropion, double dose", "#E69F00", "bupropion"),
    "methylphenidate": Label("Methylphenidate", "#D55E00"),
    "methylphenidate_double": Label("Methylphenidate, double", "#D55E00", "methylphenidate"),
    "ketamine_once": Label("Ketamine once", "#CC79A7"),
    "ketamine_repeated": Label("Ketamine twice a week", "#8F3A73"),
    "recalibration": Label("Recalibration", "#009E73"),
    "recalibration_at_rest": Label("Recalibration at rest", "#009E73", "recalibration"),
    "ketamine_recalibration": Label("Ketamine + recalibration", "#0072B2"),
}

# What is fitted in a trial and is no arm of it.
REGIMENS = {"ketamine": Label("Ketamine", ARMS["ketamine_repeated"].colour)}


def of(name: str) -> Label:
    """The label of an arm or a regimen; one that is not listed is shown in black by its own name."""
    return (ARMS | REGIMENS).get(name, Label(name.replace("_", " "), "#000000"))


def in_order(arms: Sequence[str]) -> list[str]:
    """`arms` in the order of tables; unknown ones last."""
    known = list(ARMS)
    return sorted(arms, key=lambda arm: known.index(arm) if arm in ARMS else len(known))


def chosen(text: str) -> list[str] | None:
    """The arms in a comma list; None, which is all of them, for an empty one.

    >>> chosen("placebo, ketamine_once")
    ['placebo', 'ketamine_once']

    Raises:
        ValueError: an arm that does not exist, or one given twice; the message names the nearest.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ARMS:
            near = get_close_matches(name, ARMS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(ARMS)}."
            raise ValueError(f"no arm is called {name!r}; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"arm {name!r} is given {names.count(name)} times; name each once.")
    return names or None
