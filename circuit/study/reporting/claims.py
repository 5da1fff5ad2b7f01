"""What the trial shows, as numbers. Nothing here is written into the model: each is read off the arms."""

from collections.abc import Iterator, Mapping

import numpy as np

from .results import ArmResult, ClaimResult

ArmResults = Mapping[str, ArmResult]

DAYS_PER_HOUR = 1 / 24


def evaluate_claims(arms: ArmResults) -> list[ClaimResult]:
    """Every claim whose arms were run and whose days were reached."""
    found = []
    for claim in (
        _ssri_claims,
        _stimulant_claims("bupropion"),
        _stimulant_claims("methylphenidate"),
        _ketamine_claims,
        _recalibration_claims,
    ):
        try:
            found += list(claim(arms))
        except KeyError:  # an arm that was not run
            continue
    return found


def _gain_over_placebo(arm: ArmResult, placebo: ArmResult, day: float, quantity: str = "vta_output") -> float:
    """How far above placebo the mean of `quantity` is on `day`; NaN past the end."""
    if day > arm.day[-1] + 1e-6:
        return float("nan")
    return float(arm.mean[quantity][arm.at(day)] - placebo.mean[quantity][placebo.at(day)])


def _make_claim(name: str, sentence: str, value: float, expected: str, holds: bool) -> Iterator[ClaimResult]:
    if np.isfinite(value):
        yield ClaimResult(name, sentence, float(value), expected, bool(holds))


def _ssri_claims(arms: ArmResults) -> Iterator[ClaimResult]:
    ssri, placebo = arms["ssri"], arms["placebo"]
    mood = _gain_over_placebo(ssri, placebo, 28, "mood")
    yield from _make_claim("ssri.mood", "SSRI: mood above placebo at week 4", mood, "over 0.1", mood > 0.1)
    early = _gain_over_placebo(ssri, placebo, 7, "mood") / mood
    yield from _make_claim("ssri.delay", "SSRI: share of that lift there at week 1", early, "under 0.5", early < 0.5)
    ratio = ssri.mean["vta_output"] / placebo.mean["vta_output"]
    worst = ratio[np.argmax(np.abs(ratio - 1))]
    yield from _make_claim(
        "ssri.output", "SSRI: VTA output over placebo, worst of all weeks", worst, "0.9 to 1.1", abs(worst - 1) < 0.1
    )


def _stimulant_claims(drug: str):
    def partial(arms: ArmResults) -> Iterator[ClaimResult]:
        once, twice, placebo = arms[drug], arms[f"{drug}_double"], arms["placebo"]
        dopamine = _gain_over_placebo(once, placebo, 28, "dopamine")
        yield from _make_claim(
            f"{drug}.dopamine", f"{drug}: dopamine above placebo at week 4", dopamine, "over 0", dopamine > 0
        )
        drive = once.mean["drive"][once.at(28)]
        yield from _make_claim(
            f"{drug}.partial", f"{drug}: drive at week 4, healthy = 1", drive, "under 0.9", drive < 0.9
        )
        first = _gain_over_placebo(once, placebo, 28, "drive")
        yield from _make_claim(f"{drug}.drive", f"{drug}: drive above placebo at week 4", first, "over 0", first > 0)
        more = (_gain_over_placebo(twice, placebo, 28, "drive") - first) / first
        yield from _make_claim(
            f"{drug}.saturation",
            f"{drug}: what doubling adds, over the first gain in drive",
            more,
            "under 0.5",
            more < 0.5,
        )
        more = (_gain_over_placebo(twice, placebo, 28, "dopamine") - dopamine) / dopamine
        yield from _make_claim(
            f"{drug}.dopamine_saturation",
            f"{drug}: what doubling adds, over the first gain in dopamine",
            more,
            "under 0.5",
            more < 0.5,
        )

    return partial


def _ketamine_claims(arms: ArmResults) -> Iterator[ClaimResult]:
    once, placebo = arms["ketamine_once"], arms["placebo"]
    early, day = _gain_over_placebo(once, placebo, 4 * DAYS_PER_HOUR), _gain_over_placebo(once, placebo, 1)
    yield from _make_claim(
        "ketamine.onset", "ketamine: gain in VTA output 4 h after one dose", early, "over 0.1", early > 0.1
    )
    yield from _make_claim(
        "ketamine.trapped", "ketamine: share of that gain kept at 24 h", day / early, "over 0.5", day > 0.5 * early
    )
    gain = once.mean["vta_output"] - placebo.mean["vta_output"]
    peak = gain[: once.at(2) + 1].max()
    lost = once.day[(once.day > 1) & (gain < 0.5 * peak)]
    relapse = lost[0] if len(lost) else np.nan
    yield from _make_claim(
        "ketamine.relapse", "ketamine: day on which half of the gain is gone", relapse, "5 to 14", 5 <= relapse <= 14
    )


def _recalibration_claims(arms: ArmResults) -> Iterator[ClaimResult]:
    live, placebo = arms["recalibration"], arms["placebo"]
    week9 = _gain_over_placebo(live, placebo, 63)
    yield from _make_claim(
        "recalibration.gain", "recalibration: gain in VTA output at week 9", week9, "over 0.2", week9 > 0.2
    )
    gain = live.mean["vta_output"] - placebo.mean["vta_output"]
    days = live.day[gain >= 0.9 * gain[live.day <= 63].max()]
    slow = days[0] if week9 == week9 else np.nan
    yield from _make_claim(
        "recalibration.slow", "recalibration: day on which 90 % of its gain is there", slow, "over 14", slow > 14
    )
    rest = _gain_over_placebo(arms["recalibration_at_rest"], placebo, 63) / week9
    yield from _make_claim(
        "recalibration.gate", "the same sessions at rest: share of the gain", rest, "under 0.33", rest < 1 / 3
    )
    kept = _gain_over_placebo(live, placebo, 84)
    other = _gain_over_placebo(arms["ketamine_repeated"], placebo, 84)
    yield from _make_claim(
        "recalibration.durable",
        "recalibration less repeated ketamine: gain left two weeks after the stress",
        kept - other,
        "over 0",
        kept > other,
    )
