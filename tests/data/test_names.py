"""Images are found although a table spells their names in its own way."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcount_cli.data.names import ImageIndex, Spellings, written_name

NFC, NFD = (unicodedata.normalize(form, "käfer.jpg") for form in ("NFC", "NFD"))


def test_backslashes_and_a_leading_dot_are_other_spellings_of_a_path():
    assert written_name(" .\\sub\\a.jpg ") == "sub/a.jpg"
    assert written_name("././a.jpg") == "a.jpg"


@pytest.mark.parametrize(("known", "name"), [(NFC, NFD), (NFD, NFC), ("a.JPG", "a.jpg")])
def test_unicode_forms_and_the_case_of_a_suffix_are_reconciled(known, name):
    assert Spellings([known, "other.png"]).find(name) == known


def test_an_exact_name_comes_before_another_spelling():
    assert Spellings(["a.JPG", "a.jpg"]).find("a.jpg") == "a.jpg"


def test_a_name_that_may_be_two_files_is_none():
    assert Spellings(["a.JPG", "a.Jpg"]).find("a.jpg") is None


def test_the_stem_keeps_its_case():
    assert Spellings(["A.jpg"]).find("a.jpg") is None


@pytest.mark.parametrize(
    ("name", "meant"), [("IMG_0O1.jpg", "IMG_001.jpg"), ("img_001.JPG", "IMG_001.jpg")]
)
def test_a_similar_name_is_suggested(name, meant):
    assert f'did you mean "{meant}"' in Spellings(["IMG_001.jpg", "IMG_778.jpg"]).suggest(name)


def test_nothing_is_suggested_for_a_name_like_no_other():
    assert Spellings(["a.jpg"]).suggest("completely-different.tif") == ""


@given(st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1))
def test_every_name_is_found_in_either_unicode_form(stem):
    known = f"{stem}.jpg"

    for form in ("NFC", "NFD"):
        assert Spellings([known]).find(unicodedata.normalize(form, known)) in (known, None)
    assert Spellings([known]).find(known) == known


@pytest.fixture
def index(tmp_path):
    images = [tmp_path / name for name in ("images/a.jpg", "day1/1.jpg", "day2/1.jpg")]
    for path in images:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return ImageIndex(tmp_path, images)


def test_paths_of_the_machine_that_wrote_them_are_matched_by_their_last_parts(index):
    found = index.find("C:/Users/ann/photos/day2/1.jpg", [index.root])

    assert found is not None
    assert (found.path, found.exact) == (index.root / "day2" / "1.jpg", False)


@pytest.mark.parametrize("root", [".", "data", "../at/data", "{here}/data"])
def test_a_whole_path_is_found_however_the_folder_is_called(tmp_path, monkeypatch, root):
    here = tmp_path / "at"
    (here / "data" / "images").mkdir(parents=True)
    (here / "data" / "images" / "a.jpg").touch()
    monkeypatch.chdir(here if root != "." else here / "data")
    folder = Path(root.format(here=here))

    found = ImageIndex(folder, [folder / "images" / "a.jpg"]).find(
        str(here / "data" / "images" / "a.jpg"), [folder]
    )

    assert found == (folder / "images" / "a.jpg", True, None)


def test_a_bare_name_that_several_folders_hold_is_not_guessed(index):
    assert index.find("1.jpg", [index.root]) is None


def test_a_relative_folder_that_does_not_exist_is_not_replaced_by_another(index):
    assert index.find("day3/1.jpg", [index.root]) is None
