"""`clipcount batch` from the command line: which images, prompts and rows, and what is said."""

from __future__ import annotations

import csv
import io
import json
import os
import sys

import numpy as np
import pytest
from photo_folders import batch, draw, draw_folder, small_counter
from PIL import Image

from clipcount_cli.batch.names import result_path
from clipcount_cli.counting.images import read_image

needs_posix_names = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos")


@pytest.fixture
def run(weights, tmp_path):
    def invoke(*words, **settings):
        return batch(weights, *words, "--csv", tmp_path / "out.csv", **settings)

    return invoke


@pytest.fixture
def rows(tmp_path):
    def read():
        text = (tmp_path / "out.csv").read_bytes().decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))

    return read


def test_a_folder_becomes_a_csv_as_it_stands(run, photos, tmp_path):
    result = run(photos)

    lines = (tmp_path / "out.csv").read_bytes().split(b"\n")
    assert result.exit_code == 0, result.output
    assert lines[0] == b"image,prompt,count,status,message,width,height,weights"
    assert lines[1].startswith(b"1.png,objects,")
    assert lines[1].split(b",")[3:7] == [b"ok", b"", b"96", b"64"]
    assert len(lines) == 7
    assert result.stdout == ""
    assert 'counting "objects" in 5 images without a prompt' in result.stderr


def test_counts_are_those_of_a_single_photograph(run, photos, rows):
    run(photos, "--prompt", "red apples")

    single = small_counter().count(read_image(photos / "3.png").pixels, "red apples")[0]
    assert float(rows()[2]["count"]) == pytest.approx(single.count, rel=1e-4)


def test_images_come_in_natural_order_from_all_folders(run, rows, tmp_path):
    for name in ("b/10.png", "b/9.png", "a.png", "B2.png", ".hidden.png", ".git/x.png"):
        draw(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("none")

    run(tmp_path / "photos", "--prompt", "apples")

    assert [row["image"] for row in rows()] == ["a.png", "b/9.png", "b/10.png", "B2.png"]


def test_every_prompt_of_every_image_has_its_row(run, photos, rows):
    run(photos, "--prompt", "red apples", "--prompt", "pears", "--prompt", "pears")

    found = [(row["image"], row["prompt"]) for row in rows()]
    assert found[:3] == [("1.png", "red apples"), ("1.png", "pears"), ("2.png", "red apples")]
    assert len(found) == 10


def test_sub_folders_name_what_they_hold(run, rows, tmp_path):
    for name in ("apples/1.png", "more/red pears/2.png", "3.png"):
        draw(tmp_path / "photos" / name)

    result = run(tmp_path / "photos")

    assert {row["image"]: row["prompt"] for row in rows()} == {
        "3.png": "objects",
        "apples/1.png": "apples",
        "more/red pears/2.png": "red pears",
    }
    assert 'names of sub-folders as prompts: "apples", "red pears"' in result.stderr
    assert 'counting "objects" in 1 image without a prompt' in result.stderr


def test_a_prompts_file_in_the_folder_is_used(run, photos, rows):
    (photos / "prompts.csv").write_text("image,prompt\n2.png,pears\n2.png,plums\n1.png,figs\n")

    result = run(photos)

    assert [(r["image"], r["prompt"]) for r in rows()] == [
        ("1.png", "figs"),
        ("2.png", "pears"),
        ("2.png", "plums"),
    ]
    assert "prompts.csv names: 2 images" in result.stderr
    assert 'does not name "3.png", "4.png", "5.png": left out' in result.stderr


def test_images_a_prompts_file_names_in_vain_are_told_and_failed(run, photos, rows, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text("\N{ZERO WIDTH NO-BREAK SPACE}Image,Prompt\n1.png,figs\ngone.png,figs\n")

    result = run(photos, "--prompts", listed)

    assert result.exit_code == 3
    assert 'do not exist: "gone.png"' in result.stderr
    assert [(r["image"], r["status"]) for r in rows()] == [("1.png", "ok"), ("gone.png", "failed")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,prompt\n1.png,figs\n", "lacks the column image: its first line is 'file,prompt'"),
        ("image,prompt\n1.png,\n", "line 2: image or prompt is empty"),
        ("image,prompt\n1.png,caf\udce9\n", "not UTF-8"),
    ],
)
def test_a_broken_prompts_file_is_told(run, photos, tmp_path, text, told):
    listed = tmp_path / "list.csv"
    listed.write_bytes(text.encode("utf-8", "surrogateescape"))

    result = run(photos, "--prompts", listed)

    assert result.exit_code == 1
    assert told in result.stderr


@needs_posix_names
def test_a_prompts_file_may_have_a_name_that_is_no_text(run, photos, tmp_path):
    listed = tmp_path / os.fsdecode(b"p\xff.csv")
    listed.write_text("image,prompt\n1.png,figs\n")

    first = run(photos, "--prompts", listed)
    again = run(photos, "--prompts", listed, "--resume")

    assert (first.exit_code, again.exit_code) == (0, 0), first.output


def test_several_paths_keep_their_names(run, photos, rows):
    first, second = photos / "5.png", photos / "1.png"

    run(first, second, "--prompt", "apples")

    assert [row["image"] for row in rows()] == [str(first), str(second)]


def test_an_image_named_twice_is_counted_once(run, photos, rows):
    name = next(photos.glob("*.png")).name

    result = run(photos / name, f"{photos}/./{name}", photos, "--prompt", "apples")

    names = [row["image"] for row in rows()]
    assert result.exit_code == 0, result.output
    assert names[0] == f"{photos}/{name}"
    assert sorted(n.rpartition("/")[2] for n in names) == sorted(p.name for p in photos.iterdir())


def test_a_list_of_paths_may_come_from_stdin(run, photos, rows):
    listed = f"{photos / '4.png'}\n\n{photos / '2.png'}\n"

    run("--from-file", "-", "--prompt", "apples", input=listed)

    assert [row["image"] for row in rows()] == [str(photos / "4.png"), str(photos / "2.png")]


def test_a_list_from_a_closed_stdin_is_told_in_words(run, monkeypatch):
    monkeypatch.setattr("clipcount_cli.batch.plan.sys", type("sys", (), {"stdin": None}))

    result = run("--from-file", "-", "--prompt", "apples")

    assert result.exit_code == 1
    assert "stdin is closed" in result.stderr


def test_an_overlong_line_of_a_list_is_a_failed_row(run, photos, rows):
    listed = f"{'x' * 300}.png\n{photos / '2.png'}\n"

    result = run("--from-file", "-", "--prompt", "apples", input=listed)

    assert result.exit_code == 3
    assert [row["status"] for row in rows()] == ["failed", "ok"]


def test_an_overlong_name_among_the_prompts_is_a_failed_row(run, photos, rows):
    (photos / "prompts.csv").write_text(f"image,prompt\n1.png,figs\n{'x' * 300}.png,figs\n")

    result = run(photos)

    assert result.exit_code == 3
    assert [row["status"] for row in rows()] == ["ok", "failed"]


def test_rows_can_go_to_stdout(weights, photos):
    result = batch(weights, photos, "--prompt", "apples", "--csv", "-", "-q")

    assert [line.split(",")[0] for line in result.stdout.splitlines()] == [
        "image",
        *(f"{n}.png" for n in range(1, 6)),
    ]
    assert result.stderr.count("\n") <= 1


def test_excel_finds_a_byte_order_mark_and_no_formula(run, photos, tmp_path):
    draw(photos / "=cmd.png")

    run(photos, "--excel", "--prompt", "apples")

    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfimage,prompt")
    assert b"\n'=cmd.png,apples," in data


def test_json_lines_tell_the_same(run, photos, rows, tmp_path):
    run(photos, "--json-lines", tmp_path / "out.jsonl", "--prompt", "apples")

    told = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(t["image"], t["count"]) for t in told] == [
        (row["image"], float(row["count"])) for row in rows()
    ]


@needs_posix_names
def test_names_no_csv_would_expect_come_back(run, rows, tmp_path):
    photos = draw_folder(tmp_path / "photos", 1)
    names = [
        b'a, "b".png',
        b"two\nlines.png",
        b"caf\xe9.png",
        "\N{SNOWMAN}.png".encode(),
        b"[red].png",
    ]
    for name in names:
        os.link(photos / "1.png", photos / os.fsdecode(name))

    result = run(photos, "--prompt", "apples")

    assert result.exit_code == 0, result.output
    assert {row["image"] for row in rows()} == {
        "1.png",
        'a, "b".png',
        "two\nlines.png",
        "caf\\xe9.png",
        "\N{SNOWMAN}.png",
        "[red].png",
    }


@needs_posix_names
def test_link_loops_end(run, photos, rows):
    (photos / "sub").mkdir()
    (photos / "sub" / "up").symlink_to(photos)
    (photos / "sub" / "self.png").symlink_to(photos / "sub" / "self.png")

    result = run(photos, "--prompt", "apples")

    assert result.exit_code == 3
    assert [row["image"] for row in rows()][5:] == ["sub/self.png"]


def test_nothing_to_count_is_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()

    result = run(tmp_path / "empty")

    assert result.exit_code == 1
    assert "no image in" in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_an_existing_csv_is_not_overwritten_unasked(run, photos, tmp_path):
    (tmp_path / "out.csv").write_text("precious")

    refused = run(photos)
    kept = (tmp_path / "out.csv").read_text()
    replaced = run(photos, "--overwrite")

    assert (refused.exit_code, kept) == (2, "precious")
    assert "--resume" in refused.stderr
    assert replaced.exit_code == 0
    assert (tmp_path / "out.csv").read_text().startswith("image,")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("photos", "photos/1.png"),
        ("photos", "photos/prompts.csv"),
        ("photos/1.png", "photos/1.png"),
        ("photos/scan", "photos/scan"),
    ],
)
def test_what_is_to_be_read_is_never_written(weights, photos, tmp_path, source, output):
    (photos / "scan").write_bytes((photos / "1.png").read_bytes())
    (photos / "prompts.csv").write_text("image,prompt\n1.png,figs\n")
    before = (tmp_path / output).read_bytes()

    result = batch(weights, tmp_path / source, "--csv", tmp_path / output, "--overwrite")

    assert result.exit_code == 2
    assert (tmp_path / output).read_bytes() == before


def test_no_part_is_overwritten_by_the_whole(weights, photos, tmp_path):
    part = tmp_path / "part.csv"
    batch(weights, photos, "--csv", part, "--shard", "1/1")
    before = part.read_bytes()

    result = batch(weights, "--merge", part, "--csv", part, "--overwrite")

    assert result.exit_code == 2
    assert "part.csv is an input" in result.stderr
    assert part.read_bytes() == before


def test_resuming_what_was_never_begun_replaces_nothing(run, photos, tmp_path):
    (tmp_path / "notes.jsonl").write_text("precious")

    result = run(photos, "--resume", "--json-lines", tmp_path / "notes.jsonl")

    assert result.exit_code == 2
    assert "notes.jsonl exists already" in result.stderr
    assert (tmp_path / "notes.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    "words",
    [
        ("--resume", "--overwrite"),
        ("--prompt", "a", "--prompts", "b.csv"),
        ("--prompt", " "),
        ("--shard", "3/2"),
        ("--workers", "0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(run, photos, words):
    assert run(photos, *words).exit_code == 2


def test_resuming_after_failures_gives_the_file_of_an_undisturbed_run(run, photos, tmp_path):
    out = tmp_path / "out.csv"
    run(photos, "--prompt", "apples", "--prompt", "figs")
    undisturbed = out.read_bytes()
    sound = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(sound[:100])
    assert run(photos, "--prompt", "apples", "--prompt", "figs", "--overwrite").exit_code == 3
    (photos / "2.png").write_bytes(sound)

    result = run(photos, "--prompt", "apples", "--prompt", "figs", "--resume")

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == undisturbed


def test_resuming_with_another_prompt_is_refused(run, photos):
    run(photos, "--prompt", "apples")

    result = run(photos, "--prompt", "pears", "--resume")

    assert result.exit_code == 2
    assert 'out.csv was made with other prompts: "apples" then, "pears" now\n' in result.stderr
    assert "hint: use the same prompts, name another --csv, or start again" in result.stderr


def test_a_finished_run_can_be_resumed(run, photos, tmp_path):
    run(photos)
    before = (tmp_path / "out.csv").read_bytes()

    assert run(photos, "--resume").exit_code == 0
    assert (tmp_path / "out.csv").read_bytes() == before


def test_a_csv_with_a_stray_quote_is_refused_where_it_stands(run, photos, tmp_path):
    out = tmp_path / "out.csv"
    run(photos)
    edited = out.read_bytes().replace(b"\n3.png,", b'\n"3".png,')
    out.write_bytes(edited)

    result = run(photos, "--resume")

    assert result.exit_code == 2
    assert "out.csv, line 4: " in result.stderr
    assert out.read_bytes() == edited


def test_fail_fast_stops_at_the_first_failure(run, photos, rows):
    (photos / "2.png").write_bytes(b"")

    result = run(photos, "--prompt", "apples", "--fail-fast")

    assert result.exit_code == 1
    assert "2.png is empty" in result.stderr
    assert [row["status"] for row in rows()] == ["ok", "failed"]


def test_heatmaps_never_collide(run, tmp_path):
    for name in ("a/1.png", "b/1.png", "1.jpg"):
        draw(tmp_path / "photos" / name)
    prompts = ("red apples", "Red apples", "red-apples", "äpfel", "苹果")

    result = run(
        tmp_path / "photos",
        *("--heatmaps", tmp_path / "maps"),
        *(word for prompt in prompts for word in ("--prompt", prompt)),
    )

    drawn = list((tmp_path / "maps").rglob("*.png"))
    assert result.exit_code == 0, result.output
    assert len({str(path).lower() for path in drawn}) == 3 * len(prompts)
    assert (tmp_path / "maps" / "a" / "1.png.red-apples.png").exists()
    assert Image.open(drawn[0]).width >= 96


def test_heatmap_names_stay_in_their_folder_and_differ(tmp_path):
    images = ["../1.jpg", "1.jpg", "/1.jpg", "./1.jpg", "a:1.jpg", "a?1.jpg", f"{'x' * 250}.jpg"]

    paths = [result_path(tmp_path, image, "apples", ".png") for image in images]

    assert len(set(paths)) == len(images)
    assert all(tmp_path in path.parents and ".." not in path.parts for path in paths)
    assert all(len(path.name) < 240 for path in paths)


def test_existing_heatmaps_are_not_overwritten_unasked(run, photos, tmp_path):
    draw(tmp_path / "maps" / "4.png.apples.png")

    result = run(photos, "--prompt", "apples", "--heatmaps", tmp_path / "maps")

    assert result.exit_code == 2
    assert "4.png.apples.png exists" in result.stderr


@pytest.mark.parametrize(("name", "code"), [("notes.txt", 2), ("notes.txt/maps", 1)])
def test_heatmaps_that_have_no_folder_to_go_to_are_told(run, photos, tmp_path, name, code):
    (tmp_path / "notes.txt").write_text("precious")

    result = run(photos, "--heatmaps", tmp_path / name)

    assert result.exit_code == code
    assert f"{tmp_path / name}" in result.stderr
    assert "hint: " in result.stderr
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_heatmaps_among_the_photographs_are_not_counted(run, photos, rows):
    run(photos, "--prompt", "apples", "--heatmaps", photos / "maps")

    result = run(photos, "--prompt", "apples", "--heatmaps", photos / "maps", "--resume")

    assert result.exit_code == 0, result.output
    assert len(rows()) == 5


@pytest.mark.parametrize("place", ["photos", "photos/sub/..", "."])
def test_heatmaps_that_would_be_counted_are_refused(run, photos, tmp_path, place):
    result = run(photos, "--heatmaps", tmp_path / place)

    assert result.exit_code == 2
    assert "would lie among the images" in result.stderr
    assert f"--heatmaps {photos / 'heatmaps'}" in result.stderr


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_do_not_depend_on_workers_or_company(run, photos, rows, tmp_path, workers):
    draw(photos / "wide.png", 1400, 64)
    run(photos, "--prompt", "apples", "--prompt", "figs", "--workers", workers)
    together = {(row["image"], row["prompt"]): row for row in rows()}

    run(photos / "wide.png", "--prompt", "figs", "--overwrite")

    assert {**rows()[0], "image": "wide.png"} == together["wide.png", "figs"]


def test_shards_join_to_the_whole(weights, photos, tmp_path):
    parts = [tmp_path / f"part{n}.csv" for n in (1, 2, 3)]
    common = ("--prompt", "apples", "--prompt", "figs")
    batch(weights, photos, *common, "--csv", tmp_path / "whole.csv")
    for number, part in enumerate(parts, start=1):
        batch(weights, photos, *common, "--csv", part, "--shard", f"{number}/3")

    result = batch(weights, "--merge", *reversed(parts), "--csv", tmp_path / "joined.csv")

    assert result.exit_code == 0, result.output
    assert (tmp_path / "joined.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    again = batch(weights, photos, *common, "--csv", tmp_path / "joined.csv", "--resume")
    assert again.exit_code == 0, again.output


def test_shards_that_are_not_all_parts_are_refused(weights, photos, tmp_path):
    part = tmp_path / "part.csv"
    batch(weights, photos, "--csv", part, "--shard", "1/2")

    alone = batch(weights, "--merge", part, "--csv", tmp_path / "joined.csv")
    part.write_bytes(part.read_bytes().rsplit(b"\n", 2)[0] + b"\n")
    other = tmp_path / "other.csv"
    batch(weights, photos, "--csv", other, "--shard", "2/2")
    torn = batch(weights, "--merge", part, other, "--csv", tmp_path / "joined.csv")

    assert (alone.exit_code, torn.exit_code) == (2, 1)
    assert "not all shards of one run: 1/2" in alone.stderr
    assert "part.csv is not finished: it has 2 of 3 rows" in torn.stderr


def test_a_part_torn_inside_an_image_is_not_finished(weights, photos, tmp_path):
    parts = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for number, part in enumerate(parts, start=1):
        words = ("--prompt", "apples", "--prompt", "figs", "--shard", f"{number}/2")
        batch(weights, photos, *words, "--csv", part)
    parts[0].write_bytes(parts[0].read_bytes().rsplit(b"\n", 2)[0] + b"\n")

    result = batch(weights, "--merge", *parts, "--csv", tmp_path / "joined.csv")

    assert result.exit_code == 1
    assert "1.csv is not finished: it has 5 of 6 rows" in result.stderr
    assert not (tmp_path / "joined.csv").exists()


def test_more_shards_than_images_leave_empty_parts_that_join(weights, tmp_path):
    photos = draw_folder(tmp_path / "photos", 2)
    parts = [tmp_path / f"part{n}.csv" for n in (1, 2, 3)]
    batch(weights, photos, "--csv", tmp_path / "whole.csv")

    codes = [
        batch(weights, photos, "--csv", part, "--shard", f"{number}/3").exit_code
        for number, part in enumerate(parts, start=1)
    ]
    joined = batch(weights, "--merge", *parts, "--csv", tmp_path / "joined.csv")

    assert codes == [0, 0, 0]
    assert parts[2].read_bytes().count(b"\n") == 1
    assert joined.exit_code == 0, joined.output
    assert (tmp_path / "joined.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_pages_left_unread_are_told_in_the_row(run, rows, tmp_path):
    page = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "photos").mkdir()
    page.save(tmp_path / "photos" / "a.tif", save_all=True, append_images=[page, page])

    run(tmp_path / "photos")

    assert (rows()[0]["status"], rows()[0]["message"]) == ("ok", "first of 3 pages")


def test_an_output_whose_name_is_too_long_is_told_in_one_line(weights, photos, tmp_path):
    result = batch(weights, photos, "--prompt", "apples", "--csv", tmp_path / ("x" * 300 + ".csv"))

    assert result.exit_code == 1
    assert "File name too long" in result.stderr
    assert isinstance(result.exception, SystemExit)
