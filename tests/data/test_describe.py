from habenula.circuit.data.describe import MAX_LINES, MAX_WIDTH, describe, describe_html, missing_name


def test_a_summary_has_at_most_twelve_lines_and_says_what_it_leaves_out():
    lines = describe("title", [(f"row {i}", i) for i in range(30)]).splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-2:] == ["  row 9   9", "  ... and 20 more"]


def test_a_summary_of_twelve_lines_is_whole():
    lines = describe("title", [(f"{i}", i) for i in range(MAX_LINES - 1)]).splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-1].split() == ["10", "10"]


def test_long_lines_are_cut():
    lines = describe("title", [("quantities", "x" * 500)]).splitlines()
    assert len(lines[-1]) == MAX_WIDTH
    assert lines[-1].endswith("...")


def test_html_escapes_title_labels_and_values():
    table = describe_html("<a>", [("<b>", "<c>")])
    assert not {"<a>", "<b>", "<c>"} & {table[i : i + 3] for i in range(len(table))}


def test_a_missing_name_quotes_the_nearest_whatever_its_case():
    assert "did you mean kir_shift?" in missing_name("Kir_Shft", ["kir_shift", "mood"]).args[0]
