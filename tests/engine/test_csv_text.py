"""CSV in which no spreadsheet finds a formula, whatever delimiter it assumes."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adit_engine.csv_text import escape_formulas, format_csv_row, unescape_formulas

FORMULA = re.compile(r"[\s\"]*[=+\-@＝＋－＠]|[\t\r\n]")
DELIMITERS = (",", ";", "\t", "\r", "\n")
texts = st.text(alphabet="=+-@＝;,\t\r\n \"'ab1", max_size=12)


@pytest.mark.parametrize(
    "value", ["a;=cmd()", "x,=1+1", "x\t@SUM(1)", 'a;"=1"', "a; =1", "=1", "ａ\n＝1"]
)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_a_value_has_no_formula_where_a_spreadsheet_splits_it_in_spite_of_the_quotes(
    value: str, delimiter: str
) -> None:
    line = format_csv_row([value, value]).removesuffix("\r\n")

    assert not [cell for cell in line.split(delimiter) if FORMULA.match(cell)]


@given(texts, st.sampled_from(DELIMITERS))
def test_no_part_of_an_escaped_text_begins_like_a_formula(text: str, delimiter: str) -> None:
    parts = escape_formulas(text).split(delimiter)

    assert not [part for part in parts if re.match(r"[ \"]*[=+\-@＝]", part)]


@given(texts)
def test_an_escaped_text_is_read_back_unchanged(text: str) -> None:
    assert unescape_formulas(escape_formulas(text)) == text


def test_all_fields_are_quoted() -> None:
    assert format_csv_row(["0012", "", None, 'a"b', 7]) == '"0012","","","a""b","7"\r\n'


@given(st.lists(texts, min_size=2, max_size=4))
def test_a_csv_reader_finds_the_values_of_a_row(values: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(format_csv_row(values), newline=""), strict=True)

    assert list(map(unescape_formulas, row)) == values
