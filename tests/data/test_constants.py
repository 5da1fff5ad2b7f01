"""The table of constants: complete, checked while read, and rewritten whole or not at all."""

import pytest

from habenula.circuit.data import constants
from habenula.circuit.data.constants import Constant

ROW = Constant("a.one", 1.0, "1/h", "assumed", "nobody 2020", "a note, with a comma")


@pytest.mark.parametrize("constant", constants.load_constants(), ids=lambda constant: constant.name)
def test_every_constant_has_a_unit_and_a_source(constant):
    assert constant.unit
    assert constant.source
    assert constants.constant_value(constant.name) == constant.value


def test_unknown_names_point_to_the_nearest():
    with pytest.raises(ValueError, match=r"ketamine_block\.off_rate"):
        constants.constant_value("ketamine_block.of_rate")
    with pytest.raises(ValueError, match="ketamine_block"):
        constants.section_values("ketamine_blok")


def test_update_replaces_in_place_and_keeps_sections_together(tmp_path):
    path = tmp_path / "constants.csv"
    constants.update_constants([ROW, ROW._replace(name="b.one")], path)
    constants.update_constants([ROW._replace(name="a.two", value=2.0), ROW._replace(value=0.123456789)], path)
    rows = constants.read_constants(path)
    assert [row.name for row in rows] == ["a.one", "a.two", "b.one"]
    assert rows[0] == ROW._replace(value=0.123457)
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left behind"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a.one,1,h,assumed,nobody 2020,", "line 3: a.one stands here for the second time"),
        ("a.two,1,h,guessed,nobody 2020,", "line 3: a.two has status 'guessed'"),
        ("a.two,one,h,assumed,nobody 2020,", "line 3: could not convert string to float: 'one'"),
        ("a.two,nan,h,assumed,nobody 2020,", "line 3: a.two is nan"),
        ("a.two,1,,assumed,nobody 2020,", "line 3: a.two needs a unit and a source"),
        ("two,1,h,assumed,nobody 2020,", "line 3: 'two' is not a dotted lower-case name"),
        ("a.two,1,h,assumed,nobody 2020", "line 3: 5 cells instead of 6"),
    ],
)
def test_malformed_rows_are_refused_with_their_line(tmp_path, line, complaint):
    path = tmp_path / "constants.csv"
    path.write_text(",".join(Constant._fields) + f"\na.one,1,1/h,assumed,nobody 2020,\n{line}\n")
    with pytest.raises(ValueError, match=complaint):
        constants.read_constants(path)


def test_a_bad_update_leaves_the_file_alone(tmp_path):
    path = tmp_path / "constants.csv"
    constants.update_constants([ROW], path)
    before = path.read_text()
    with pytest.raises(ValueError, match="status"):
        constants.update_constants([ROW._replace(value=2.0), ROW._replace(name="a.two", status="guessed")], path)
    with pytest.raises(ValueError, match="given twice"):
        constants.update_constants([ROW, ROW], path)
    assert path.read_text() == before
