"""`clipcount eval` from the command line: its table, JSON, files and exit codes."""

from __future__ import annotations

import csv
import io
import json

import pytest
from dataset_folders import make_carpk, make_fsc147, make_own, make_shanghaitech
from held_files import held
from photo_folders import save_weights
from PIL import Image
from typer.testing import CliRunner

from clipcount_cli.cli import app

KEYS = ["dataset", "split", "images", "failed", "mae", "rmse", "nae", "sre"]
KEYS += ["rmse_without_two_largest", "median_relative_error", "exact"]
KEYS += ["weights", "device", "precision"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def fsc147(tmp_path):
    splits = {"train": ["1.jpg"], "val": ["2.jpg"], "test": ["3.jpg", "4.jpg", "5.jpg"]}
    classes = {"1.jpg": "pens", "2.jpg": "owls", "3.jpg": "cups", "4.jpg": "cats", "5.jpg": "cats"}
    return make_fsc147(tmp_path / "fsc", splits, classes)


@pytest.fixture
def run(weights):
    def invoke(data, *options):
        fixed = ["--weights", weights, "--device", "cpu", "--precision", "fp32"]
        return CliRunner().invoke(
            app, [str(word) for word in ("eval", "--data", data, *fixed, *options)]
        )

    return invoke


def test_json_has_the_agreed_keys_in_their_order(run, fsc147):
    result = run(fsc147, "--json")

    figures = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(figures) == KEYS
    assert (figures["dataset"], figures["split"], figures["images"]) == ("fsc147", "test", 3)
    assert figures["weights"].startswith("small@")
    assert (figures["device"], figures["precision"]) == ("cpu", "fp32")


def test_the_table_shows_what_json_tells(run, fsc147):
    figures = json.loads(run(fsc147, "--json").stdout)

    table = run(fsc147).stdout

    assert f"{figures['mae']:.3f}" in table
    assert "RMSE" in table


@pytest.mark.parametrize("columns", [60, 80])
def test_the_table_fits_narrow_terminals(run, fsc147, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))

    table = run(fsc147, "--prompt-check").stdout

    lines = table.splitlines()
    assert max(map(len, lines)) <= columns
    names = ("data set", "weights", "images", "MAE", "median relative error", "exact", "PCCN")
    assert all(any(line.strip().startswith(name) for line in lines) for name in names)


def test_tiles_change_the_counts_and_are_reported(run, fsc147):
    plain, tiled = (run(fsc147, "--json", *options) for options in ((), ("--tiles", "2")))

    assert json.loads(tiled.stdout)["tiles"] == 2
    assert json.loads(tiled.stdout)["mae"] != json.loads(plain.stdout)["mae"]
    assert run(fsc147, "--tiles", "many").exit_code == 2


def test_plain_counts_are_evaluated_as_they_stand(run, tmp_path):
    make_own(tmp_path / "own", [], ["a.jpg", "b.jpg", "c.jpg"])
    (tmp_path / "own" / "points.csv").unlink()
    table = "Image;Prompt;Count\r\na.jpg;cups;3\r\nb.jpg;cups;0\r\nc.jpg;cups;7,0\r\n"
    (tmp_path / "own" / "counts.csv").write_bytes(table.encode("utf-8-sig"))

    result = run(tmp_path / "own", "--json", "--csv", tmp_path / "rows.csv")

    figures = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert figures["images"] == 3
    assert 0 <= figures["exact"] <= 1
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["truth"] for row in rows] == ["3", "0", "7"]
    relative = [abs(float(row["error"])) / float(row["truth"]) for row in (rows[0], rows[2])]
    assert figures["median_relative_error"] == pytest.approx(sum(relative) / 2, rel=1e-3)
    assert "read as counts (counts.csv): 3 images, 10 objects" in result.stderr


def test_prompt_check_adds_nmn_and_pccn(run, fsc147):
    figures = json.loads(run(fsc147, "--json", "--prompt-check").stdout)

    assert {"nmn", "pccn"} <= set(figures)
    assert figures["nmn"] > 0
    assert 0 <= figures["pccn"] <= 100


def test_prompt_check_with_one_class_is_null_and_says_so(run, tmp_path):
    make_carpk(tmp_path / "carpk", train=["a"], test=["b"])

    result = run(tmp_path / "carpk", "--json", "--prompt-check")

    assert json.loads(result.stdout)["nmn"] is None
    assert json.loads(result.stdout)["pccn"] is None
    assert "two classes" in result.stderr


def test_below_three_images_the_figure_without_two_is_null(run, fsc147):
    figures = json.loads(run(fsc147, "--json", "--split", "val").stdout)

    assert figures["rmse_without_two_largest"] is None


def test_csv_holds_a_row_for_each_image_and_its_errors_make_the_mae(run, fsc147, tmp_path):
    figures = json.loads(run(fsc147, "--json", "--csv", tmp_path / "rows.csv").stdout)

    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert list(rows[0]) == ["image", "prompt", "count", "truth", "error"]
    assert [row["image"] for row in rows] == ["3.jpg", "4.jpg", "5.jpg"]
    errors = [abs(float(row["error"])) for row in rows]
    assert sum(errors) / 3 == pytest.approx(figures["mae"], abs=1e-4)
    assert float(rows[0]["count"]) - float(rows[0]["truth"]) == pytest.approx(
        float(rows[0]["error"]), abs=2e-4
    )


def test_csv_goes_to_stdout_alone_where_asked(run, fsc147):
    result = run(fsc147, "--csv", "-")

    assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 3


def test_pictures_are_written(run, fsc147, tmp_path):
    result = run(fsc147, "--plot", tmp_path / "plot.png", "--worst", tmp_path / "worst")

    assert result.exit_code == 0, result.stderr
    assert Image.open(tmp_path / "plot.png").size[0] > 300
    drawn = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert [name[:3] for name in drawn] == ["01_", "02_", "03_"]


def test_an_existing_file_is_kept_unless_overwriting_was_asked_for(run, fsc147, tmp_path):
    (tmp_path / "rows.csv").write_text("mine")

    refused = run(fsc147, "--csv", tmp_path / "rows.csv")
    kept = (tmp_path / "rows.csv").read_text()
    replaced = run(fsc147, "--csv", tmp_path / "rows.csv", "--overwrite")

    assert (refused.exit_code, kept, replaced.exit_code) == (2, "mine", 0)


@pytest.mark.parametrize(("option", "name"), [("--csv", "x.xlsx"), ("--plot", "x.txt")])
def test_a_file_named_as_another_format_is_refused(run, fsc147, tmp_path, option, name):
    result = run(fsc147, option, tmp_path / name)

    assert result.exit_code == 2
    assert f"cannot write {option} " in result.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("option", "name"), [("--csv", "x.csv"), ("--plot", "x.png")])
def test_a_file_open_in_another_program_is_named_before_counting(
    run, fsc147, tmp_path, option, name
):
    (tmp_path / name).write_text("old")

    with held(tmp_path / name):
        result = run(fsc147, option, tmp_path / name, "--overwrite", "--weights", "missing")

    assert result.exit_code == 1
    assert f"cannot write {tmp_path / name}" in result.stderr


def test_a_folder_of_worst_pictures_that_is_not_empty_is_refused(run, fsc147, tmp_path):
    assert run(fsc147, "--worst", fsc147).exit_code == 2


def test_an_unreadable_image_is_counted_as_failed_named_and_exits_3(run, fsc147):
    (fsc147 / "images_384_VarV2" / "4.jpg").write_bytes(b"\xff\xd8\xff cut off")

    result = run(fsc147, "--json")

    figures = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (figures["images"], figures["failed"]) == (3, 1)
    assert "4.jpg" in result.stderr


def test_when_every_image_fails_the_exit_code_is_1_and_the_figures_are_null(run, fsc147):
    (fsc147 / "images_384_VarV2" / "2.jpg").write_bytes(b"no image")

    result = run(fsc147, "--json", "--split", "val")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["mae"] is None


def test_a_broken_data_set_is_refused_before_weights_are_even_looked_for(fsc147):
    (fsc147 / "images_384_VarV2" / "4.jpg").unlink()

    command = ["eval", "--data", str(fsc147), "--weights", "no such weights"]
    result = CliRunner().invoke(app, command)

    assert result.exit_code == 1
    assert "missing images (1): images_384_VarV2/4.jpg" in result.stderr


def test_an_unknown_split_is_a_usage_error(run, fsc147):
    assert run(fsc147, "--split", "holdout").exit_code == 2


def test_split_all_takes_every_picture(run, fsc147):
    assert json.loads(run(fsc147, "--json", "--split", "all").stdout)["images"] == 5


def test_part_of_shanghaitech_names_the_data_set(run, tmp_path):
    make_shanghaitech(tmp_path / "sht", "part_A", test=1)
    make_shanghaitech(tmp_path / "sht", "part_B", test=2)

    figures = json.loads(run(tmp_path / "sht", "--json", "--part", "B").stdout)

    assert (figures["dataset"], figures["images"]) == ("shanghaitech_B", 2)


def test_own_data_counts_several_prompts_of_one_image_as_one_image(run, tmp_path):
    make_own(tmp_path / "own", ["a.jpg,cups,1,1", "a.jpg,pens,,"], ["a.jpg"])

    figures = json.loads(run(tmp_path / "own", "--json", "--split", "all").stdout)

    assert figures["images"] == 1
    assert figures["dataset"] == "own"


def test_own_data_is_called_by_its_folder(run, tmp_path, monkeypatch):
    lab = make_own(tmp_path / "lab", ["a.jpg,cups,1,1"], ["a.jpg"])
    monkeypatch.chdir(lab)

    table = run(".", "--split", "all")
    rows = run(lab, "--split", "all", "--csv", "-")
    unknown = run(lab, "--split", "foo")

    assert "lab, all" in table.stdout
    assert rows.stderr.splitlines()[-1].startswith("lab, split all: small@")
    assert unknown.exit_code == 2
    assert "error: lab has no split 'foo'\n" in unknown.stderr
    assert unknown.stderr.splitlines()[-1].startswith("hint: choose one with --split: ")
