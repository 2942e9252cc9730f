"""What `clipcount batch` writes beside its rows, in which formats, and what it refuses to touch."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from held_files import held
from photo_folders import batch, draw, draw_folder
from PIL import Image

from clipcount_cli.batch import run as batch_run
from clipcount_cli.batch import workbook
from clipcount_cli.locks import exclusive

PROMPTS = ("--prompt", "apples", "--prompt", "figs")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos", 4)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.csv"


def read(path, delimiter=","):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_a_run_ends_with_totals_per_prompt(weights, photos, out, tmp_path):
    (photos / "2.png").write_bytes(b"")

    result = batch(weights, photos, *PROMPTS, "--csv", out, "--summary", tmp_path / "sums.csv")

    counts = [float(row["count"]) for row in read(out) if row["prompt"] == "figs" and row["count"]]
    apples, figs = read(tmp_path / "sums.csv")
    assert (apples["prompt"], figs["prompt"]) == ("apples", "figs")
    assert (figs["images"], figs["failed"]) == ("4", "1")
    expected = (sum(counts), statistics.mean(counts), statistics.median(counts))
    assert [float(figs[name]) for name in ("total", "mean", "median")] == pytest.approx(
        expected, abs=0.006
    )
    assert [float(figs["min"]), float(figs["max"])] == [min(counts), max(counts)]
    shown = [line.split() for line in result.stderr.splitlines()]
    assert ["prompt", "images", "failed", "total", "mean", "median", "min", "max"] in shown
    assert ["figs", "4", "1", f"{sum(counts):.1f}"] in [words[:4] for words in shown]
    assert result.stdout == ""


def test_totals_are_not_printed_when_quiet(weights, photos, out):
    said = batch(weights, photos, *PROMPTS, "--csv", out, "-q").stderr.splitlines()

    assert [line for line in said if not line.startswith("warning: the prompt has no effect")] == []


def test_totals_of_images_that_all_failed_are_empty(weights, tmp_path, out):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")

    batch(weights, tmp_path / "photos", "--csv", out, "--summary", tmp_path / "sums.csv")

    assert (tmp_path / "sums.csv").read_text().splitlines()[1] == "objects,1,1,,,,,"


def test_a_resumed_run_writes_the_same_summary(weights, photos, out, tmp_path):
    sums = tmp_path / "sums.csv"
    words = (photos, *PROMPTS, "--csv", out, "--summary", sums)
    batch(weights, *words)
    whole = sums.read_bytes()
    out.write_bytes(b"".join(out.read_bytes().splitlines(True)[:4]))
    sums.unlink()

    result = batch(weights, *words, "--resume")

    assert result.exit_code == 0, result.output
    assert sums.read_bytes() == whole


@pytest.mark.parametrize(("name", "character"), [("semicolon", ";"), ("tab", "\t")])
def test_cells_may_be_separated_by_something_else(weights, photos, out, name, character):
    draw(photos / "a;b.png")

    batch(weights, photos, "--prompt", "apples", "--csv", out, "--delimiter", name)
    before = out.read_bytes()
    resumed = batch(
        weights, photos, "--prompt", "apples", "--csv", out, "--delimiter", name, "--resume"
    )
    other = batch(weights, photos, "--prompt", "apples", "--csv", out, "--resume")

    rows = read(out, character)
    assert [row["image"] for row in rows] == ["1.png", "2.png", "3.png", "4.png", "a;b.png"]
    assert float(rows[0]["count"]) > 0
    assert (resumed.exit_code, out.read_bytes()) == (0, before)
    assert (other.exit_code, "delimiter: " in other.stderr) == (2, True)


def test_excel_with_semicolons_finds_decimal_commas(weights, photos, out):
    words = (photos, "--prompt", "apples", "--csv", out, "--excel", "--delimiter", "semicolon")

    batch(weights, *words)

    before = out.read_bytes()
    count = read(out, ";")[0]["count"]
    assert before.startswith(b"\xef\xbb\xbfimage;prompt;count;")
    assert count.count(",") == 1
    assert batch(weights, *words, "--resume").exit_code == 0
    assert out.read_bytes() == before


def test_heatmaps_may_be_jpeg(weights, photos, out, tmp_path):
    maps = tmp_path / "maps"
    words = (
        photos,
        "--prompt",
        "figs",
        "--csv",
        out,
        "--heatmaps",
        maps,
        "--heatmap-format",
        "jpg",
    )

    batch(weights, *words)
    out.unlink()
    again = batch(weights, *words)

    assert {path.name for path in maps.iterdir()} == {f"{n}.png.figs.jpg" for n in (1, 2, 3, 4)}
    assert Image.open(maps / "1.png.figs.jpg").format == "JPEG"
    assert (again.exit_code, "1.png.figs.jpg exists" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "name", "hint"),
    [
        ("--csv", "x.xls", "x.csv"),
        ("--csv", "x.jsonl", "x.csv"),
        ("--report", "b.txt", "b.html"),
        ("--report", "b", "b.html"),
        ("--summary", "s.xlsx", "s.csv"),
        ("--json-lines", "j.csv", "j.jsonl"),
    ],
)
def test_a_suffix_of_another_format_is_refused(weights, photos, out, tmp_path, option, name, hint):
    others = () if option == "--csv" else ("--csv", out)

    result = batch(weights, photos, *others, option, tmp_path / name)

    assert result.exit_code == 2
    assert f"name it like {hint}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_files_that_are_no_images_are_counted_by_suffix(weights, photos, out):
    for name in ("a.czi", "b.CZI", "c.nd2", "notes.txt", "README", ".DS_Store"):
        (photos / name).write_text("x")
    words = (photos, "--prompt", "apples", "--csv", photos / "out.csv", "--json-lines")

    result = batch(weights, *words, photos / "o.jsonl")
    again = batch(weights, *words, photos / "o.jsonl", "--resume")

    expected = (
        "skipped 5 files that are not named like images: "
        "2 .czi, 1 without a suffix, 1 .nd2, 1 .txt (to count in .czi, .nd2, export TIFF or PNG)"
    )
    assert expected in result.stderr
    assert expected in again.stderr  # the run's own files are no news


def test_a_folder_of_nothing_but_other_files_says_which(weights, tmp_path, out):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").write_text("x")

    result = batch(weights, tmp_path / "slides", "--csv", out)

    assert result.exit_code == 1
    assert "no image in" in result.stderr
    assert "skipped 1 file that is not named like an image: .svs" in result.stderr
    assert "hint: supported are .jpg, .png, .tif, " in result.stderr


def test_a_failed_row_says_what_to_do_next(weights, photos, out):
    (photos / "prompts.csv").write_text("image,prompt\n1.png,apples\ngone.png,apples\n")

    batch(weights, photos, "--csv", out)

    assert read(out)[1]["message"] == "gone.png does not exist (check the spelling and the folder)"


def test_a_run_that_ends_while_another_waits_is_not_overwritten(weights, photos, out, monkeypatch):
    """Both find no CSV; the second takes the lock once the first has finished."""
    plan = batch_run._plan

    def plan_late(request):
        monkeypatch.undo()
        first = batch(weights, photos, "--prompt", "apples", "--csv", out)
        assert first.exit_code == 0
        return plan(request)

    monkeypatch.setattr(batch_run, "_plan", plan_late)
    second = batch(weights, photos, "--prompt", "figs", "--csv", out)

    assert second.exit_code == 2
    assert "exists already" in second.stderr
    assert {row["prompt"] for row in read(out)} == {"apples"}


@pytest.mark.parametrize("shared", ["shared.jsonl", "shared.html"])
def test_two_runs_never_share_an_output(weights, photos, out, tmp_path, shared):
    option = "--report" if shared.endswith("html") else "--json-lines"

    with exclusive(tmp_path / shared):
        result = batch(weights, photos, "--csv", out, option, tmp_path / shared)

    assert result.exit_code == 2
    assert f"another run is writing {tmp_path / shared}" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["heatmaps/1.png.apples.png", "points/1.png.apples.csv"])
def test_a_heatmap_open_in_another_program_stops_the_run_before_rows_are_lost(
    weights, photos, tmp_path, name
):
    words = (
        *(photos, "--prompt", "apples", "--csv", tmp_path / "out.csv"),
        *("--heatmaps", tmp_path / "heatmaps", "--points", tmp_path / "points"),
    )
    batch(weights, *words)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with held(tmp_path / name):
        result = batch(weights, *words, "--overwrite")

    assert result.exit_code == 1
    assert f"cannot write {tmp_path / name}" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.html", "sums.csv"])
@pytest.mark.parametrize("again", ["--overwrite", "--resume"])
def test_a_file_open_in_another_program_stops_the_run_before_anything_is_lost(
    weights, photos, tmp_path, name, again
):
    words = (
        *(photos, "--prompt", "apples", "--csv", tmp_path / "out.csv"),
        *("--json-lines", tmp_path / "out.jsonl", "--report", tmp_path / "out.html"),
        *("--summary", tmp_path / "sums.csv"),
    )
    batch(weights, *words)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    with held(tmp_path / name):
        result = batch(weights, *words, again)

    assert result.exit_code == 1
    assert f"cannot write {tmp_path / name}" in result.stderr
    assert "another program" in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_rows_of_renamed_and_deleted_images_go_and_the_count_is_right(weights, photos, out):
    words = (photos, "--prompt", "apples", "--csv", out)
    batch(weights, *words)
    (photos / "1.png").rename(photos / "one.png")
    (photos / "2.png").unlink()

    result = batch(weights, *words, "--resume")

    resumed = out.read_bytes()
    assert result.exit_code == 0, result.output
    assert "dropped 2 rows of images that no longer exist: 1.png, 2.png" in result.stderr
    assert f"3 rows in {out}" in result.stderr
    assert [row["image"] for row in read(out)] == ["3.png", "4.png", "one.png"]
    batch(weights, *words, "--overwrite")
    assert out.read_bytes() == resumed


def test_a_run_resumes_after_its_folder_moved(weights, photos, out, tmp_path):
    batch(weights, photos, "--prompt", "apples", "--csv", out)
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(True)[:3]))
    moved = photos.rename(tmp_path / "moved")

    result = batch(weights, moved, "--prompt", "apples", "--csv", out, "--resume")

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == whole


def test_a_folder_of_other_images_with_the_same_names_is_refused(weights, photos, out, tmp_path):
    batch(weights, photos, "--prompt", "apples", "--csv", out)
    before = out.read_bytes()
    others = tmp_path / "others"
    for number in (1, 2, 3, 4):
        draw(others / f"{number}.png", seed=number + 50)

    result = batch(weights, others, "--prompt", "apples", "--csv", out, "--resume")

    assert result.exit_code == 2
    assert "made from other images: 1.png" in result.stderr
    assert out.read_bytes() == before


def as_spreadsheets_save(data, delimiter, end, encoding, decimal):
    """The first three rows, with a blank one and empty columns as after deleting by hand."""
    rows = list(csv.reader(data.decode().splitlines()[:4]))
    for row in rows[1:]:
        row[2] = row[2].rstrip("0").replace(".", decimal)
    rows.insert(2, [""] * len(rows[0]))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([*row, ""] for row in rows)
    return text.getvalue().encode(encoding)


@pytest.mark.parametrize(
    ("delimiter", "end", "encoding", "decimal"),
    [
        (";", "\r\n", "utf-8-sig", ","),
        ("\t", "\r\n", "utf-16", "."),
        (",", "\r", "utf-8", "."),
        (",", "\r\n", "utf-16-le", ","),
    ],
)
def test_a_csv_that_a_spreadsheet_saved_is_resumed(
    weights, photos, out, delimiter, end, encoding, decimal
):
    (photos / "1.png").rename(photos / 'ä, "1".png')
    words = (photos, "--prompt", "apples; red", "--csv", out)
    batch(weights, *words)
    whole = out.read_bytes()
    out.write_bytes(as_spreadsheets_save(whole, delimiter, end, encoding, decimal))

    result = batch(weights, *words, "--resume")

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == whole
    assert "no longer exist" not in result.stderr


class TestWorkbook:
    @pytest.fixture(autouse=True)
    def _openpyxl(self):
        self.openpyxl = pytest.importorskip("openpyxl")

    def rows(self, path, sheet=0):
        book = self.openpyxl.load_workbook(path)
        return [list(cells) for cells in book.worksheets[sheet].iter_rows(values_only=True)]

    def test_holds_the_rows_of_a_csv_and_the_totals(self, weights, photos, out, tmp_path):
        draw(photos / "=1+1.png")
        (photos / "2.png").write_bytes(b"")
        batch(weights, photos, *PROMPTS, "--csv", out)

        result = batch(weights, photos, *PROMPTS, "--csv", tmp_path / "out.xlsx")

        header, *found = self.rows(tmp_path / "out.xlsx")
        expected = read(out)
        assert result.exit_code == 3, result.output
        assert header == list(expected[0])
        assert [row[0] for row in found] == [row["image"] for row in expected]
        assert [row[2] for row in found] == [
            float(row["count"]) if row["count"] else None for row in expected
        ]
        assert self.rows(tmp_path / "out.xlsx", 1)[1][:3] == ["apples", 5, 1]
        assert {path.name for path in tmp_path.iterdir()} == {
            *("photos", "out.csv", "out.csv.settings.json"),
            *("out.xlsx", "out.xlsx.settings.json"),
        }

    def test_rows_that_one_sheet_cannot_hold_follow_on_the_next(
        self, weights, photos, tmp_path, monkeypatch
    ):
        batch(weights, photos, *PROMPTS, "--csv", tmp_path / "one.xlsx")
        header, *whole = self.rows(tmp_path / "one.xlsx")
        monkeypatch.setattr(workbook, "MAX_ROWS", len(whole) - 1)
        batch(weights, photos, *PROMPTS, "--csv", tmp_path / "two.xlsx")
        draw(photos / "5.png", seed=5)

        result = batch(weights, photos, *PROMPTS, "--csv", tmp_path / "two.xlsx", "--resume")

        names = self.openpyxl.load_workbook(tmp_path / "two.xlsx").sheetnames
        (_, *first), (again, *rest) = (self.rows(tmp_path / "two.xlsx", n) for n in (0, 1))
        assert result.exit_code == 0, result.output
        assert names == ["counts", "counts 2", "totals"]
        assert again == header
        assert first + rest[:1] == whole
        assert len(rest) == 3

    def test_resumes_when_finished(self, weights, photos, tmp_path):
        book = tmp_path / "out.xlsx"
        batch(weights, photos, *PROMPTS, "--csv", book)
        whole = self.rows(book)
        draw(photos / "5.png", seed=5)

        result = batch(weights, photos, *PROMPTS, "--csv", book, "--resume")
        refused = batch(weights, photos, *PROMPTS, "--csv", book)

        assert result.exit_code == 0, result.output
        assert self.rows(book)[: len(whole)] == whole
        assert len(self.rows(book)) == len(whole) + 2
        assert refused.exit_code == 2

    def test_resumes_when_stopped_and_is_written_at_the_end(self, weights, photos, tmp_path):
        book = tmp_path / "out.xlsx"
        sound = (photos / "3.png").read_bytes()
        (photos / "3.png").write_bytes(b"")
        stopped = batch(weights, photos, *PROMPTS, "--csv", book, "--fail-fast")
        existed = book.exists()
        again = batch(weights, photos, *PROMPTS, "--csv", book)
        (photos / "3.png").write_bytes(sound)

        result = batch(weights, photos, *PROMPTS, "--csv", book, "--resume")

        assert (stopped.exit_code, existed, again.exit_code) == (1, False, 2)
        assert result.exit_code == 0, result.output
        assert [row[0] for row in self.rows(book)[1::2]] == ["1.png", "2.png", "3.png", "4.png"]

    def test_without_openpyxl_is_refused_with_the_extra(
        self, weights, photos, tmp_path, monkeypatch
    ):
        monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)

        result = batch(weights, photos, "--csv", tmp_path / "out.xlsx")

        assert result.exit_code == 2
        assert "clipcount-cli[xlsx]" in result.stderr

    def test_takes_no_options_of_csv_files(self, weights, photos, tmp_path):
        assert batch(weights, photos, "--csv", tmp_path / "o.xlsx", "--excel").exit_code == 2

    def test_of_all_shards_is_that_of_the_whole(self, weights, photos, tmp_path):
        parts = [tmp_path / f"part{n}.xlsx" for n in (1, 2)]
        batch(weights, photos, *PROMPTS, "--csv", tmp_path / "whole.xlsx")
        for number, part in enumerate(parts, start=1):
            batch(weights, photos, *PROMPTS, "--csv", part, "--shard", f"{number}/2")

        result = batch(weights, "--merge", *parts, "--csv", tmp_path / "joined.xlsx")

        assert result.exit_code == 0, result.output
        assert self.rows(tmp_path / "joined.xlsx") == self.rows(tmp_path / "whole.xlsx")
