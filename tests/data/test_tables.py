"""The one reader of tables: whatever spreadsheets and scripts save as CSV."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcount_cli.data.tables import NumberReader, read_table
from clipcount_cli.errors import DataError

ROWS = [["a.jpg", "käfer"], ["b, c.jpg", 'red "big" ants']]


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes, encoding: str = "utf-8", name: str = "prompts.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def cells(path):
    return [[row.cells["image"], row.cells["prompt"]] for row in read_table(path).rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_delimiter_encoding_and_line_end_gives_the_same_rows(table, delimiter, end, encoding):
    lines = [["image", "prompt"], *ROWS]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in line] for line in lines]
    text = end.join(delimiter.join(line) for line in quoted) + end

    assert cells(table(text, encoding)) == ROWS


def test_headers_are_read_in_any_case_and_cells_are_stripped(table):
    path = table("Prompt , IMAGE,note\n  red ants , a.jpg ,x\n")

    assert cells(path) == [["a.jpg", "red ants"]]


def test_blank_rows_are_skipped_and_lines_still_counted(table):
    path = table("image,prompt\n\n,\n  ,  \na.jpg,ants\n")

    (row,) = read_table(path).rows
    assert (row.line, row.cells["image"]) == (5, "a.jpg")


def test_the_separator_line_of_excel_is_obeyed(table):
    path = table("sep=;\r\nimage;prompt\r\na.jpg;red, green ants\r\n")

    (row,) = read_table(path).rows
    assert row.cells == {"image": "a.jpg", "prompt": "red, green ants"}
    assert row.line == 3


def test_a_short_row_ends_in_empty_cells(table):
    (row,) = read_table(table("image,prompt,x,y\na.jpg,ants\n")).rows

    assert (row.cells["x"], row.cells["y"]) == ("", "")


def test_a_row_with_more_cells_than_the_header_is_refused(table):
    path = table("image,prompt,x,y\na.jpg,ants,12,5,30,25\n")

    with pytest.raises(DataError, match="line 2") as caught:
        read_table(path)

    assert "decimal commas" in str(caught.value.hint)


def test_missing_and_repeated_columns_are_named(table):
    with pytest.raises(DataError, match=r"lacks the columns x, y: .*'image,prompt'"):
        read_table(table("image,prompt\n"), ("image", "x", "y"))
    with pytest.raises(DataError, match="has the column x twice"):
        read_table(table("image,x,x\n"), ("image", "x"))


def test_an_open_quotation_mark_is_reported_with_its_line(table):
    with pytest.raises(DataError, match="line 3"):
        read_table(table('image,prompt\na.jpg,ants\nb.jpg,"ants\n'))


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        ("xl/workbook.xml", "an Excel workbook (.xlsx)"),
        ("content.xml", "an OpenDocument spreadsheet (.ods)"),
        ("anything", "a ZIP archive"),
    ],
)
def test_a_workbook_is_named_whatever_its_suffix(table, member, kind):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, "<x/>")

    with pytest.raises(DataError) as caught:
        read_table(table(archive.getvalue()))

    assert kind in str(caught.value)
    assert "CSV UTF-8" in str(caught.value.hint)


def test_text_in_an_old_code_page_is_refused_with_the_way_out(table):
    with pytest.raises(DataError, match="not UTF-8") as caught:
        read_table(table("image,prompt\nkäfer.jpg,ants\n", "cp1252"))

    assert "CSV UTF-8" in str(caught.value.hint)


# --- numbers


def number(cell: str, *others: str, delimiter: str = ";") -> float:
    return NumberReader([cell, *others], delimiter)(cell)


@pytest.mark.parametrize(
    ("cell", "others", "value"),
    [
        ("12.5", (), 12.5),
        ("12,5", (), 12.5),
        ("1,234", ("5,5",), 1.234),
        ("1.234,5", (), 1234.5),
        ("1.234", ("1.234,5",), 1234),
        ("1,234", ("1,234.5",), 1234),
        ("\N{MINUS SIGN}3", (), -3),
        ("1e3", (), 1000),
    ],
)
def test_the_decimal_mark_is_found_out_from_all_numbers_of_a_table(cell, others, value):
    assert number(cell, *others) == value


@pytest.mark.parametrize(
    ("cell", "others", "delimiter"),
    [
        ("1,234", ("17",), ","),  # between commas: a thousand, or one and a bit?
        ("1.234", ("12,5",), ";"),
        ("12,5", ("1,234.5",), ","),
        ("nan", (), ","),
        ("inf", (), ","),
        ("1_000", (), ","),
        ("", (), ","),
        ("one", (), ","),
    ],
)
def test_what_is_no_number_or_may_be_two_is_refused(cell, others, delimiter):
    with pytest.raises(ValueError, match="number"):
        number(cell, *others, delimiter=delimiter)


@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=1), st.sampled_from(".,"))
def test_numbers_come_back_whichever_decimal_mark_they_are_written_with(values, mark):
    written = [f"{value:.2f}".replace(".", mark) for value in values]

    reader = NumberReader(written, ";")

    assert [reader(cell) for cell in written] == values
