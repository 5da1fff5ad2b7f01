"""Tables say what the results say, in as many characters as there are, with and without a terminal."""

import io
import re
import textwrap

import pytest
from fake_trial import CLAIMS, RESTORE, trial
from rich.console import Console

from habenula.circuit.data import evidence
from habenula.circuit.study.reporting import labels, tables
from habenula.circuit.study.reporting.text_table import TableCell, TableColumn, render_table


def plain(texts) -> list[str]:
    return [text.plain for text in texts]


@pytest.mark.parametrize("limit", [120, 80])
def test_the_trial_fits_its_lines(limit):
    text = plain(tables.trial_table(trial(), limit))
    assert max(map(len, text)) <= limit
    for label in labels.ARM_LABELS.values():
        first = label.text if limit == 120 else " ".join(textwrap.wrap(label.text, 16)[:1])
        assert any(re.match(rf"{re.escape(first)} +0\.54", line) for line in text), label
    whole = "\n".join(text)
    for heading in ("week 0", "4 h", "day 1", "week 1", "week 4", "week 9", "week 12", "drive", "liking", "mood"):
        assert heading in whole


def test_its_numbers_are_those_of_the_arms():
    found = trial()
    line = next(line for line in plain(tables.trial_table(found)) if line.startswith("Recalibration  "))
    arm = found.arms["recalibration"]
    week9 = arm.at(63.0)
    assert f"{arm.mean['vta_output'][week9]:.2f}±.02" in line
    assert re.search(
        rf"{arm.mean['drive'][week9]:.2f} +{arm.mean['liking'][week9]:.2f} +{arm.mean['mood'][week9]:.2f}", line
    )
    assert line.split()[-1] == f"{100 * arm.restored[-1]:.0f}"


def test_a_short_trial_shows_the_visits_that_it_reached():
    text = plain(tables.trial_table(trial(weeks=2, arms=["ssri", "placebo"])))
    assert "week 1" in text[1]
    assert "week 4" not in text[1]
    assert "at the end" in text[0]
    assert [line.split()[0] for line in text[3:5]] == ["Placebo", "SSRI"]  # in the order of tables, not of the run


def test_claims_and_regimens():
    text = plain(tables.claims_table(CLAIMS, 80))
    assert max(map(len, text)) <= 80
    assert [line.split()[-1] for line in text if line.endswith(("yes", "NO"))] == ["yes", "NO"]
    text = "\n".join(plain(tables.regimen_table(RESTORE)))
    assert "2 of 3  reached" in text
    assert "0 of 2  bounded" in text
    assert "Ketamine: at its bound" in text
    assert "mg_per_kg = 1, 1, 1, 1, 1, 1, 1, 1" in text
    assert tables.regimen_table({}) == []


@pytest.mark.parametrize("limit", [120, 80])
@pytest.mark.parametrize("role", evidence.EVIDENCE_ROLES)
def test_every_row_of_evidence_has_its_verdict(role, limit):
    simulated = {"lhb.rmp": -47.0, "lhb.burst.hz": 40.0, "spiral": float("nan")}
    text = plain(tables.scoreboard_table(simulated, role, limit))
    assert max(map(len, text)) <= max(limit, 100)
    found = {line.split()[0]: line for line in text[2:] if line and not line.startswith(" ")}
    assert set(found) == {row.id for row in evidence.load_evidence() if row.role == role}
    verdicts = {"lhb.rmp": "inside", "lhb.burst.hz": "outside"}
    assert all(line.endswith(verdicts.get(name, "not modelled")) for name, line in found.items())
    count = sum(row.role == role for row in evidence.load_evidence())
    assert sum(int(number) for number in re.findall(r"\d+", tables.count_verdicts(simulated, role))) == count


def test_a_file_gets_neither_colours_nor_boxes():
    page = io.StringIO()
    tables.print_trial(Console(file=page), trial())
    assert max(map(len, page.getvalue().splitlines())) <= tables.DEFAULT_WIDTH
    assert not set(page.getvalue()) - {chr(code) for code in range(32, 127)} - set("\n±")


def test_a_terminal_gets_colours():
    page = io.StringIO()
    tables.print_trial(Console(file=page, force_terminal=True, width=80, color_system="standard"), trial())
    assert "\x1b[32m" in page.getvalue()


def test_headings_of_groups_stand_over_their_columns():
    columns = (
        TableColumn("name", left=True),
        TableColumn("a", "group of two"),
        TableColumn("b", "group of two"),
        TableColumn("c"),
    )
    text = plain(render_table(columns, [[TableCell("x"), TableCell("1"), TableCell("2"), TableCell("3")]]))
    assert text == ["      group of two", "name           a b  c", "---------------------", "x              1 2  3"]


def test_rows_of_one_reason_stand_together():
    said = tables.absence_table({"a.b": "nobody knows", "c": "too few", "d.e": "nobody knows"}, 40)
    assert [line.plain for line in said] == ["- a.b, d.e: nobody knows.", "- c: too few."]
    assert max(len(line) for line in tables.absence_table({"lhb.synch.depressed": "so many words " * 9}, 40)) <= 40
