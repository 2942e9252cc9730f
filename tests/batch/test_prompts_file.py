"""`batch --prompts`: tables as spreadsheets save them, and names spelt in another way."""

from __future__ import annotations

import csv
import unicodedata
import zipfile
from pathlib import Path

import pytest
from photo_folders import batch, draw, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def run(weights, tmp_path):
    def invoke(text: str, names: list[str], encoding: str = "utf-8", table: str = "list.csv"):
        for name in names:
            draw(tmp_path / "photos" / name)
        (tmp_path / table).write_bytes(text.encode(encoding))
        words = ("--prompts", tmp_path / table, "--csv", tmp_path / "out.csv")
        return batch(weights, tmp_path / "photos", *words)

    return invoke


@pytest.fixture
def rows(tmp_path):
    def read() -> list[tuple[str, str, str]]:
        with Path(tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
            return [(r["image"], r["prompt"], r["status"]) for r in csv.DictReader(file)]

    return read


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image;prompt\r\nsub/a.png;beads\r\n", "utf-8-sig"),
        ("image\tprompt\nsub/a.png\tbeads\n", "utf-16"),
        ("Image,Prompt\rsub/a.png ,  beads\r,\r", "utf-8"),
        ("image,prompt\nsub\\a.png,beads\n", "utf-8"),
        ("image,prompt\n./sub/a.PNG,beads\n", "utf-8"),
    ],
)
def test_tables_as_spreadsheets_save_them_name_the_same_image(run, rows, text, encoding):
    result = run(text, ["sub/a.png"], encoding)

    assert result.exit_code == 0, result.stderr
    assert rows() == [("sub/a.png", "beads", "ok")]


def test_an_accent_may_be_written_in_either_unicode_form(run, rows):
    known, written = (unicodedata.normalize(form, "käfer.png") for form in ("NFD", "NFC"))

    result = run(f"image,prompt\n{written},beads\n", [known])

    assert result.exit_code == 0, result.stderr
    assert rows() == [(known, "beads", "ok")]


def test_two_spellings_of_one_image_are_one_image(run, rows):
    text = "image,prompt\nsub/a.png,beads\nsub\\a.png,coins\nsub\\a.png,beads\n"

    run(text, ["sub/a.png"])

    assert rows() == [("sub/a.png", "beads", "ok"), ("sub/a.png", "coins", "ok")]


def test_a_table_none_of_whose_images_exist_is_refused_once(run, tmp_path):
    text = "image,prompt\n" + "".join(f"photo{n}.jpg,beads\n" for n in range(5))

    result = run(text, ["photo1.png", "other.png"])

    assert result.exit_code == 1
    assert "names only images that do not exist" in result.stderr
    assert 'did you mean "photo1.png"?' in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_a_table_without_rows_is_refused(run):
    result = run("image,prompt\n,\n", ["a.png"])

    assert result.exit_code == 1
    assert "names no image" in result.stderr


def test_a_comma_that_splits_a_prompt_is_refused_instead_of_cut(run):
    result = run("image,prompt\na.png,red, green beads\n", ["a.png"])

    assert result.exit_code == 1
    assert "line 2" in result.stderr


def test_a_workbook_given_as_prompts_is_named(weights, tmp_path):
    draw(tmp_path / "photos" / "a.png")
    with zipfile.ZipFile(tmp_path / "list.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    words = ("--prompts", tmp_path / "list.xlsx", "--csv", tmp_path / "out.csv")

    result = batch(weights, tmp_path / "photos", *words)

    assert result.exit_code == 1
    assert "an Excel workbook (.xlsx)" in result.stderr


def test_prompts_kept_as_a_spreadsheet_in_the_folder_are_not_passed_over(weights, tmp_path):
    draw(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "prompts.xlsx").write_bytes(b"PK")

    result = batch(weights, tmp_path / "photos", "--csv", tmp_path / "out.csv")

    assert result.exit_code == 1
    assert "prompts.xlsx is a spreadsheet" in result.stderr
