"""Reading choices and scores: accepted formats, and errors with row and column."""

import gzip

import numpy as np
import pytest

from habenula.circuit.behaviour import choices

HEADER = "subject,trial,effort,reward,choice,staircase,rt"
GOOD = [HEADER, "a,1,1,2,1,x,900", "a,2,2,2,0,x,NA", "b,2,3,1,1,x,800", "b,1,4,1,,y,"]


def written(tmp_path, *lines, name="some.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_may_come_in_any_order(tmp_path):
    result = choices.read_choices(written(tmp_path, *GOOD))
    assert result.subject == ("a", "b")
    assert result.trials == 3
    np.testing.assert_array_equal(result.effort, [[1, 2], [4, 3]])
    np.testing.assert_array_equal(result.accepted, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(result.known, [[True, True], [False, True]])
    np.testing.assert_array_equal(result.first, [[True, False], [False, True]])
    np.testing.assert_allclose(result.latency, [[0.9, np.nan], [np.nan, 0.8]])


def test_column_aliases_extra_columns_and_compression(tmp_path):
    text = "note,reward,subj,trial,effort,choice,trialType\nhello,2,a,1,1,1,3\nhello,2,a,5,1,0,3\n"
    path = tmp_path / "some.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    result = choices.read_choices(path)
    assert (result.subject, result.trials, result.latency) == (("a",), 2, None)
    np.testing.assert_array_equal(result.first, [[True, False]])


def test_columns_may_be_renamed(tmp_path):
    names = {"subject": "who", "effort": "per_cent", "choice": "took"}
    path = written(tmp_path, "who,trial,per_cent,reward,took", "a,1,20,5,1", "a,2,80,40,0")
    result = choices.read_choices(path, names)
    np.testing.assert_array_equal(result.effort, [[20, 80]])
    np.testing.assert_array_equal(result.accepted, [[1, 0]])
    invalid = written(tmp_path, "who,trial,per_cent,reward,took", "a,1,20,5,2", name="invalid.csv")
    with pytest.raises(ValueError, match=r"invalid\.csv, row 2, column took: '2' must be 1"):
        choices.read_choices(invalid, names)
    with pytest.raises(ValueError, match=r"columns of \['force'\]: choose from subject, trial"):
        choices.read_choices(path, {"force": "per_cent"})


def test_write_and_read_round_trip(tmp_path):
    before = choices.read_choices(written(tmp_path, *GOOD[:-1]))
    for name in ("again.csv", "again.csv.gz"):
        choices.write_choices(tmp_path / name, before)
        after = choices.read_choices(tmp_path / name)
        for field in ("effort", "reward", "accepted", "known", "first", "latency", "staircase"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["subject,trial,effort,reward"], "row 1: no column choice; there are subject, trial, effort, reward."),
        (
            ["subject,subj,trial,effort,reward,choice"],
            "row 1: columns subject and subj could both be subject; keep one.",
        ),
        ([HEADER + ",rt"], "row 1: columns rt and rt could both be rt; keep one."),
        ([HEADER], "has no trials"),
        ([HEADER, "a,1,1,2,1,x"], "row 2: 6 cells, but 7 columns."),
        ([HEADER, "a,1,1,2,1,x,900", "a,1,1,2,0,x,900"], "row 3, column trial: subject a has trial 1 in row 2 too"),
        ([HEADER, ",1,1,2,1,x,900"], "row 2, column subject: empty"),
        ([HEADER, "a,1.5,1,2,1,x,900"], "row 2, column trial: '1.5' is no whole number."),
        ([HEADER, "a,1,high,2,1,x,900"], "row 2, column effort: 'high' is no finite number."),
        ([HEADER, "a,1,1,nan,1,x,900"], "row 2, column reward: 'nan' is no finite number."),
        (
            [HEADER, "a,1,1,2,2,x,900"],
            "row 2, column choice: '2' must be 1 (accepted), 0 (declined) or empty (missed).",
        ),
        ([HEADER, "a,1,1,2,yes,x,900"], "row 2, column choice: 'yes' must be 1 (accepted), 0 (declined) or empty"),
        (["who,trial,level,reward,choice"], "row 1: no columns subject or subj, effort; there are who, trial, level"),
        (["subject;trial;effort;reward;choice"], "; cells must be separated by commas."),
        ([HEADER, "a,1,1,2,1,,900"], "row 2, column staircase: empty"),
        ([HEADER, "a,1,1,2,1,x,0"], "row 2, column rt: '0' must be above 0 (ms), or empty."),
    ],
)
def test_errors_name_row_and_column(tmp_path, lines, message):
    with pytest.raises(ValueError, match=r"^some\.csv") as caught:
        choices.read_choices(written(tmp_path, *lines))
    assert message in str(caught.value)


def test_binary_files_are_refused(tmp_path):
    (tmp_path / "some.csv").write_bytes(b"subject\xff\xfe,\n")
    with pytest.raises(ValueError, match=r"some\.csv, after row 0: no text"):
        choices.read_choices(tmp_path / "some.csv")
    (tmp_path / "some.csv.gz").write_text("plain")
    with pytest.raises(ValueError, match=r"some\.csv\.gz, after row 0: no text"):
        choices.read_choices(tmp_path / "some.csv.gz")


def test_scores_come_in_the_requested_order(tmp_path):
    path = written(tmp_path, "subject,shaps,age", "b,3,20", "a,1,NA", "c,9,30")
    result = choices.read_scores(path, ("a", "b"))
    np.testing.assert_array_equal(result["shaps"], [1, 3])
    np.testing.assert_array_equal(result["age"], [np.nan, 20])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["subject,shaps", "a,1", "a,2"], "row 3, column subject: subject a is repeated."),
        (["subject,shaps", "a,low"], "row 2, column shaps: 'low' is no finite number."),
        (["subject,shaps", "a"], "row 2: 1 cells, but 2 columns."),
        (["subject,shaps", "b,1"], "no row for subject a"),
        (["name,shaps", "a,1"], "row 1: no column subject or subj; there are name, shaps."),
    ],
)
def test_invalid_scores_are_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=r"^some\.csv") as caught:
        choices.read_scores(written(tmp_path, *lines), ("a",))
    assert message in str(caught.value)
