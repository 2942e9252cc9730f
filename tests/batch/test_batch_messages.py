"""What `clipcount batch` prints before and after a run: one message, and what to do next."""

from __future__ import annotations

import pytest
from photo_folders import batch, draw, draw_folder

from clipcount_cli.batch.results import Targets


@pytest.fixture
def run(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "photos", 2)

    def invoke(*words):
        return batch(weights, *words)

    return invoke


def broken(tmp_path, *names):
    for name in names:
        (tmp_path / "photos" / name).write_text("not an image")


COINS = ("photos", "--prompt", "coins")


def test_one_failure_is_the_last_line_with_its_reason_and_the_way_to_count_it(run, tmp_path):
    broken(tmp_path, "broken.jpg")

    result = run(*COINS, "--csv", "m.csv")

    assert result.exit_code == 3
    assert result.stderr.endswith(
        "warning: 1 of 3 rows in m.csv failed: broken.jpg is text, not an image\n"
        "hint: fix the images and run the same command with --resume\n"
    )


def test_of_several_failures_the_first_reason_is_printed_and_resuming_counts_them(run, tmp_path):
    broken(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    failed = run(*COINS, "--csv", "m.csv", "--overwrite", "-q")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        draw(tmp_path / "photos" / name)

    fixed = run(*COINS, "--csv", "m.csv", "--resume")

    assert failed.stderr.endswith(
        "warning: 3 of 5 rows in m.csv failed, first: a.jpg is text, not an image\n"
        "hint: fix the images and run the same command with --resume instead of --overwrite\n"
    )
    assert fixed.exit_code == 0
    assert not any(row.failed for row in Targets(tmp_path / "m.csv").read())


def test_failures_on_stdout_have_no_hint_to_resume(run, tmp_path):
    broken(tmp_path, "broken.jpg")

    result = run(*COINS, "--csv", "-", "-q")

    last = "warning: 1 of 3 rows failed: broken.jpg is text, not an image\n"
    assert result.stderr.endswith(last)


def test_failed_rows_of_merged_shards_are_counted_again_in_their_shards(run, tmp_path):
    broken(tmp_path, "broken.jpg")
    for number in (1, 2):
        run(*COINS, "--csv", f"{number}.csv", "--shard", f"{number}/2")

    result = run("1.csv", "2.csv", "--merge", "--csv", "all.csv")

    assert "hint: run the shards of the failed rows again with --resume, then" in result.stderr


@pytest.mark.parametrize(
    ("large", "line"),
    [
        (1, "1 of 3 rows has a remark: see the column message of out.csv\n3 rows in out.csv\n"),
        (2, "2 of 4 rows have remarks: see the column message of out.csv\n4 rows in out.csv\n"),
    ],
)
def test_rows_with_a_remark_are_counted_before_the_last_line(run, tmp_path, large, line):
    for number in range(large):
        draw(tmp_path / "photos" / f"large{number}.png", 3000, 2000)

    assert run(*COINS, "--csv", "out.csv").stderr.endswith(line)
    streamed = run(*COINS, "--csv", "-").stderr
    assert streamed.endswith(line.replace(" of out.csv", "").replace(" in out.csv", ""))


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ("photos", "coins"),
            "coins does not exist",
            "to count coins: clipcount batch photos --prompt coins --csv z.csv",
        ),
        (
            ("photos", "fotos", "--prompt", "coins"),
            "fotos does not exist",
            "check the spelling and the folder",
        ),
        (("fotos", "coins"), "fotos does not exist", "check the spelling and the folder"),
        (("photos", "more/fotos"), "more/fotos does not exist", "check the spelling and"),
        ((), "missing argument 'FOLDER...'", "name a folder: clipcount batch photos --csv z.csv"),
        (("--merge",), "no shards to merge", "name the CSV of each shard: clipcount batch a.csv"),
        (("no.csv", "--merge"), "the shard no.csv does not exist", "name the CSV of each shard: "),
        (("photos", "--prompt", " "), "a prompt is empty", "name what to count: --prompt "),
        (("photos", "--masks", "no"), "no does not exist", "check the spelling and the folder"),
        (("photos", "--summary", "photos"), "photos is a folder", "name a file: --summary "),
        (("photos", "--summary", "z.csv"), "z.csv is given for two outputs", "give each its own"),
        (("photos", "--report", "r"), "cannot write --report r: it has no suffix", "name it like"),
        (("photos", "--json-lines", "no/j.jsonl"), "cannot write", "create the folder no, or name"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_written(
    run, tmp_path, words, message, hint
):
    result = run(*words, "--csv", "z.csv")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.splitlines()[-1].startswith(f"hint: {hint}")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    "words", [("fotos",), ("photos", "--prompts", "no.csv"), ("--from-file", "no.txt")]
)
def test_an_input_that_does_not_exist_has_one_wording(run, words):
    result = run(*words, "--csv", "z.csv")

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {words[-1]} does not exist\nhint: check the spelling and the folder\n"
    )


def test_an_absent_image_of_a_job_is_a_failed_row(run):
    result = run("photos/1.png", "absent.jpg", "--prompt", "coins", "--csv", "z.csv")

    assert result.exit_code == 3
    assert "1 of 2 rows in z.csv failed: absent.jpg does not exist" in result.stderr


@pytest.mark.parametrize("again", [(), ("--resume",)])
def test_each_shard_needs_a_csv_of_its_own(run, tmp_path, again):
    run(*COINS, "--csv", "a.csv", "--shard", "1/2")
    before = (tmp_path / "a.csv").read_bytes()

    result = run(*COINS, "--csv", "a.csv", "--shard", "2/2", *again)

    assert result.exit_code == 2
    assert "a.csv holds the shard 1/2\nhint: each shard needs its own --csv\n" in result.stderr
    assert (tmp_path / "a.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "now", "message"),
    [
        ("photos", ("--prompt", "coins"), 'other prompts: "objects" then, "coins" now'),
        ("figs", ("--prompt", "coins"), 'other prompts: names of sub-folders then, "coins" now'),
        ("photos", ("--page", "2"), "another page: none then, 2 now"),
        ("photos", ("--excel",), "another excel: off then, on now"),
        ("photos", ("--batch-windows", "2"), "another --batch-windows: 8 then, 2 now"),
        (
            "photos",
            ("--prompt", "coins", "--tiles", "2"),
            'other settings: prompts: "objects" then, "coins" now; tiles: 1 then, 2 now',
        ),
    ],
)
def test_resuming_with_other_settings_names_both(run, tmp_path, folder, now, message):
    draw(tmp_path / "figs" / "figs" / "1.png")
    run(folder, "--csv", "out.csv")

    result = run(folder, "--csv", "out.csv", "--resume", *now)

    assert result.exit_code == 2
    assert f"error: out.csv was made with {message}\nhint: use the same " in result.stderr


def test_a_run_without_prompts_resumes_with_the_prompt_that_it_counted(run, tmp_path):
    run("photos", "--csv", "out.csv")
    before = (tmp_path / "out.csv").read_bytes()

    result = run("photos", "--csv", "out.csv", "--resume", "--prompt", "objects")

    assert result.exit_code == 0
    assert (tmp_path / "out.csv").read_bytes() == before
