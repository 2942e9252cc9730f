"""Rows on disk: what goes in comes back, and a file cut off anywhere is resumed."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from held_files import held
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.batch.results import ResultsFile, Targets
from clipcount_cli.batch.rows import COLUMNS, ResultRow, RowFormat
from clipcount_cli.errors import ClipCountError, DataError, UsageError
from clipcount_cli.files import AppendOnlyFile, as_name, as_text

SETTINGS = {"weights": "small@01234567", "precision": "fp32", "prompts": ["apples"]}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
spiced = st.one_of(texts, st.text("\",\n\r\t =+-@'\\x5cé", max_size=12))
sizes = st.integers(1, 100_000)


@st.composite
def rows(draw):
    failed = draw(st.booleans())
    hundredths = draw(st.integers(0, 10**9))
    return ResultRow(
        image=draw(spiced),
        prompt=draw(spiced),
        count=None if failed else hundredths / 100,
        status="failed" if failed else "ok",
        message=draw(spiced),
        width=None if failed else draw(sizes),
        height=None if failed else draw(sizes),
        weights=draw(spiced),
    )


formats = st.builds(RowFormat, delimiter=st.sampled_from(",;\t"), excel=st.booleans())


@settings(deadline=None)
@given(st.lists(rows(), max_size=6), formats)
def test_rows_come_back_from_the_csv_as_they_went_in(written, form):
    data = form.header + b"".join(map(form.encode, written))

    assert form.decode(data, "out.csv") == written


plain_texts = st.text(st.sampled_from("abc é,;'\"=\t.12"), min_size=1, max_size=12).map(
    lambda text: text.strip(" \t") or "x"
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(rows(), min_size=1, max_size=6),
    st.lists(plain_texts, min_size=6, max_size=6),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_rows_come_back_from_the_csv_that_a_spreadsheet_saved(
    written, names, delimiter, encoding, line_end, comma
):
    written = [
        replace(row, image=name, prompt=name, message="", weights="tiny@01234567")
        for row, name in zip(written, names, strict=False)
    ]
    decimal = "," if comma else "."
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, delimiter=delimiter, lineterminator=line_end)
    writer.writerow([column.title() for column in COLUMNS])
    for row in written:
        count = "" if row.count is None else f"{row.count:.12g}".replace(".", decimal)
        cells = [row.image, row.prompt, count, row.status, row.message]
        writer.writerow([*cells, row.width, row.height, row.weights])
        writer.writerow([])

    assert RowFormat().decode(sheet.getvalue().encode(encoding), "out.csv") == written


@settings(deadline=None)
@given(st.lists(rows(), max_size=6))
def test_other_readers_of_csv_see_the_same_cells(written):
    data = RowFormat().header + b"".join(map(RowFormat().encode, written))

    read = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))

    assert read[0] == list(COLUMNS)
    assert [(r[0], r[1], r[4], r[7]) for r in read[1:]] == [
        (row.image, row.prompt, row.message, row.weights) for row in written
    ]


@settings(deadline=None)
@given(st.lists(rows(), min_size=1, max_size=4), st.data())
def test_a_csv_cut_off_anywhere_has_the_rows_that_are_whole(written, data):
    pieces = [RowFormat().header, *map(RowFormat().encode, written)]
    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(b"".join(pieces[: n + 1])) for n in range(len(pieces))]

    found = RowFormat().decode(whole[:cut], "out.csv")

    assert found == written[: max(0, sum(end <= cut for end in ends) - 1)]


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_every_file_name_comes_back_from_its_text(raw):
    name = os.fsdecode(raw)

    text = as_text(name)

    assert text.encode("utf-8").decode("utf-8") == text
    assert os.fsencode(as_name(text)) == raw


def test_undecodable_bytes_are_spelt_out():
    assert as_text(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@sum", "\tx", "＝1"])
def test_excel_guards_cells_that_begin_like_a_formula(cell):
    row = ResultRow(cell, "apples", 1.0, "ok", "", 1, 1, "tiny@01234567")

    cells = next(csv.reader([RowFormat(excel=True).encode(row).decode()]))

    assert cells[0] == f"'{cell}"


def row(image, status="ok", prompt="apples"):
    count, size = (2.5, 10) if status == "ok" else (None, None)
    return ResultRow(image, prompt, count, status, "", size, size, "small@01234567")


def positions(*images):
    return {(image, "apples"): place for place, image in enumerate(images)}


def write(targets, written, order):
    with ResultsFile(targets, order) as results:
        results.start(SETTINGS)
        for one in written:
            results.append([one])


def finish(targets, order, settings=SETTINGS):
    """Resume, and count what is missing."""
    with ResultsFile(targets, order) as results:
        results.resume(settings)
        done = {kept.key for kept in results.kept}
        for key in order:
            if key not in done:
                results.append([row(key[0])])
    return done


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 400), failed=st.sets(st.sampled_from("abcd")), form=formats)
def test_a_resumed_file_equals_an_undisturbed_one(cut, failed, form):
    with tempfile.TemporaryDirectory() as folder:
        check_resume(Path(folder), cut, failed, form)


def check_resume(folder, cut, failed, form):
    order = positions(*"abcd")
    undisturbed = Targets(folder / "whole.csv", folder / "whole.jsonl", form)
    write(undisturbed, [row(name) for name in "abcd"], order)
    broken = Targets(folder / "broken.csv", folder / "broken.jsonl", form)
    write(broken, [row(name, "failed" if name in failed else "ok") for name in "abcd"], order)
    for path in (broken.csv, broken.json_lines):
        path.write_bytes(path.read_bytes()[:cut])

    finish(broken, order)

    assert broken.csv.read_bytes() == undisturbed.csv.read_bytes()
    assert broken.json_lines.read_bytes() == undisturbed.json_lines.read_bytes()


def test_rows_that_are_done_are_not_counted_again(tmp_path):
    targets = Targets(tmp_path / "out.csv")
    write(targets, [row("a"), row("b", "failed"), row("c")], positions(*"abc"))

    done = finish(targets, positions(*"abcd"))

    assert done == {("a", "apples"), ("c", "apples")}
    assert [r.image for r in targets.read()] == list("abcd")


def test_rows_of_images_that_are_gone_are_dropped(tmp_path):
    targets = Targets(tmp_path / "out.csv", tmp_path / "out.jsonl")
    write(targets, [row("a"), row("b"), row("c", "failed"), row("d")], positions(*"abcd"))

    finish(targets, positions(*"acd"))

    assert [r.image for r in targets.read()] == list("acd")
    assert targets.json_lines.read_text().count("\n") == 3


SAMPLE = {"a": "0123", "b": "4567"}


def resume_elsewhere(tmp_path, sample):
    targets = Targets(tmp_path / "out.csv")
    order = positions(*"abc")
    with ResultsFile(targets, order) as results:
        results.start({**SETTINGS, "folder": "/old/photos", "sample": SAMPLE})
        results.append([row("a"), row("b", "failed")])
    return finish(targets, order, {**SETTINGS, "folder": "/new/photos", "sample": sample})


@pytest.mark.parametrize("sample", [SAMPLE, {}, {"a": "0123", "b": "mended"}, {"c": "89ab"}])
def test_a_run_resumes_in_a_folder_that_moved(tmp_path, sample):
    assert resume_elsewhere(tmp_path, sample) == {("a", "apples")}


def test_a_run_does_not_resume_in_a_folder_of_other_images_with_the_same_names(tmp_path):
    with pytest.raises(UsageError, match="made from other images: a in /old/photos"):
        resume_elsewhere(tmp_path, {"a": "another"})


@pytest.mark.parametrize("which", ["csv", "json_lines", "settings"])
@pytest.mark.parametrize("again", ["start", "resume"])
def test_where_one_file_cannot_be_replaced_all_are_left_alone(tmp_path, which, again):
    targets = Targets(tmp_path / "out.csv", tmp_path / "out.jsonl")
    write(targets, [row("a"), row("b", "failed")], positions(*"ab"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    with held(getattr(targets, which)), pytest.raises(ClipCountError, match=r"cannot write .*out"):
        getattr(ResultsFile(targets, positions(*"ab")), again)(SETTINGS)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_rows_stay_when_another_program_holds_the_file_as_the_run_ends(tmp_path):
    targets = Targets(tmp_path / "out.csv")
    order = positions(*"abc")
    write(targets, [row("a"), row("b", "failed"), row("c")], order)
    results = ResultsFile(targets, order)
    results.resume(SETTINGS)
    results.append([row("b")])

    with held(targets.csv), pytest.raises(ClipCountError, match="cannot write") as refused:
        results.__exit__()
    kept = {r.image for r in targets.read()}
    finish(targets, order)

    assert "another program" in refused.value.hint
    assert kept == {*"abc"}
    assert [r.image for r in targets.read()] == list("abc")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"weights": "tiny@89abcdef"}, "other weights: small@01234567 then, tiny@89abcdef now"),
        ({"precision": "bf16"}, "another precision: fp32 then, bf16 now"),
        ({"prompts": ["pears"]}, 'other prompts: "apples" then, "pears" now'),
    ],
)
def test_a_csv_made_with_other_settings_is_refused_and_the_difference_named(
    tmp_path, changed, named
):
    targets = Targets(tmp_path / "out.csv")
    write(targets, [row("a")], positions("a"))
    before = targets.csv.read_bytes()

    with pytest.raises(UsageError) as refused:
        finish(targets, positions("a", "b"), {**SETTINGS, **changed})

    assert named in str(refused.value)
    assert targets.csv.read_bytes() == before


def test_a_csv_with_other_columns_is_refused(tmp_path):
    targets = Targets(tmp_path / "out.csv")
    targets.csv.write_text("file,count\na.jpg,3\n")

    with pytest.raises(UsageError, match='other columns: it begins "file,count"'):
        finish(targets, positions("a"))


def test_a_csv_whose_settings_are_gone_is_refused(tmp_path):
    targets = Targets(tmp_path / "out.csv")
    write(targets, [row("a")], positions("a"))
    targets.settings.unlink()

    with pytest.raises(UsageError, match=r"out\.csv\.settings\.json"):
        finish(targets, positions("a", "b"))


def test_a_row_edited_into_nonsense_is_named(tmp_path):
    data = RowFormat().header + b"a.jpg,apples,many,ok,,1,1,tiny@01234567\n"

    with pytest.raises(DataError, match=r"out\.csv, row 1 is not a row of results"):
        RowFormat().decode(data, "out.csv")


def test_a_full_disk_leaves_whole_rows(tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    file = AppendOnlyFile(tmp_path / "out.csv")
    file.append(b"whole\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as a disk with room for 10 bytes
    try:
        with pytest.raises(ClipCountError, match=r"out\.csv") as full:
            file.append(b"torn in the middle\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert file.path.read_bytes() == b"whole\n"
    assert "--resume" in full.value.hint


def test_json_lines_hold_the_same_rows(tmp_path):
    targets = Targets(tmp_path / "out.csv", tmp_path / "out.jsonl")

    write(targets, [row("a"), row("b", "failed")], positions(*"ab"))

    first, second = map(json.loads, targets.json_lines.read_text().splitlines())
    assert list(first) == list(COLUMNS)
    assert (first["image"], first["count"], first["status"]) == ("a", 2.5, "ok")
    assert (second["count"], second["status"], second["width"]) == (None, "failed", None)
