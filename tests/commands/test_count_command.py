"""`clipcount count`: one photograph, from the shell's point of view."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import SMALL_CLIP, save_small
from typer.testing import CliRunner

from clipcount_cli import load_counter
from clipcount_cli.cli import app
from clipcount_cli.errors import UsageError
from clipcount_cli.weights import cache

run = CliRunner().invoke


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return save_small(path, readout="eot", clip=dataclasses.replace(SMALL_CLIP, vocabulary=()))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "released.safetensors"
    return save_small(path, readout="released", context_tokens=2)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo[red].png")
    return tmp_path / "photo[red].png"


def count(photo, *options, weights, **more):
    return run(app, ["count", str(photo), *map(str, options), "--weights", str(weights)], **more)


def test_stdout_holds_a_count_and_its_prompt_and_nothing_else(photo, weights):
    result = count(photo, "red dots", "blue dots", weights=weights)

    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [prompt for _, prompt in lines] == ["red dots", "blue dots"]
    assert all(number == f"{float(number):.1f}" for number, _ in lines)
    assert "photo[red].png" in result.stderr


def test_json_carries_the_keys_that_scripts_rely_on(photo, weights):
    result = count(photo, "dots", "--json", "--precision", "fp32", weights=weights)

    answer = json.loads(result.stdout)
    assert list(answer) == [
        "image", "width", "height", "weights", "device", "precision", "results", "tiles",
        "notices",
    ]  # fmt: skip
    assert (answer["width"], answer["height"]) == (90, 60)
    assert (answer["device"], answer["precision"]) == ("cpu", "fp32")
    assert answer["weights"].startswith("small@")
    assert list(answer["results"][0]) == ["prompt", "count"]


def test_pages_left_unread_are_reported_on_stderr_and_in_json(weights, tmp_path):
    pages = [Image.new("L", (90, 60), gray) for gray in (10, 200)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    result = count(tmp_path / "a.tif", "dots", "--json", weights=weights)

    notices = json.loads(result.stdout)["notices"]
    assert notices[0].startswith("counting page 1 of 2")
    assert notices[0] in " ".join(result.stderr.split())


def test_a_page_a_projection_and_a_channel_can_be_chosen(weights, tmp_path):
    rng = np.random.default_rng(1)
    stack = rng.integers(0, 256, (2, 60, 90, 3), dtype=np.uint8)
    parts = {"1": stack[0], "2": stack[1], "max": stack.max(axis=0)}
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(stack[0, ..., 1]).save(tmp_path / "green.png")

    def answer(path, *options):
        return json.loads(count(path, "dots", "--json", *options, weights=weights).stdout)

    for page, pixels in parts.items():
        Image.fromarray(pixels).save(tmp_path / "part.png")
        of_page = answer(tmp_path / "a.tif", "--page", page)
        assert of_page["results"] == answer(tmp_path / "part.png")["results"]
        assert not any("page" in notice for notice in of_page["notices"])
    of_channel = answer(tmp_path / "a.tif", "--page", "1", "--channel", "2")
    assert of_channel["results"] == answer(tmp_path / "green.png")["results"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--page", "3"], 1, "has 2 pages, no page 3 hint: choose --page 1 to 2, or max"),
        (["--channel", "2"], 1, "has 1 channel, no channel 2 hint: leave out --channel"),
        (["--page", "0"], 2, "there is no page 0"),
        (
            ["--page", "all"],
            2,
            "--page all is for batch hint: to count in each page: clipcount batch",
        ),
        (["--page", "first"], 2, "a number from 1, or max"),
        (["--channel", "0"], 2, "--channel"),
    ],
)
def test_a_page_or_channel_that_does_not_exist_is_refused(weights, tmp_path, options, code, words):
    pages = [Image.new("L", (90, 60), gray) for gray in (10, 200)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    result = count(tmp_path / "a.tif", "dots", *options, weights=weights)

    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_the_name_of_a_page_comes_with_the_option_that_counts_in_it(weights, tmp_path):
    Image.new("L", (90, 60)).save(tmp_path / "a.tif")

    result = count(f"{tmp_path / 'a.tif'}#3", "dots", weights=weights)

    assert result.exit_code == 1
    assert "a.tif with --page 3" in result.stderr


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "S3://bucket/a.jpg"])
def test_a_web_address_is_no_file(weights, address):
    result = count(address, "dots", weights=weights)

    assert result.exit_code == 1
    assert f"{address} is a web address" in result.stderr
    assert "download the image first" in result.stderr


def test_density_sums_to_the_unrounded_counts(photo, weights, tmp_path):
    result = count(
        photo, "dots", "red dots", "--json", "--density", tmp_path / "d.npy", weights=weights
    )

    maps = np.load(tmp_path / "d.npy")
    counts = [row["count"] for row in json.loads(result.stdout)["results"]]
    assert maps.dtype == np.float32
    assert maps.shape == (2, 384, 576)
    np.testing.assert_allclose(maps.sum((1, 2), dtype=np.float64), counts, rtol=1e-9)


def test_heatmap_has_a_panel_of_at_least_the_photos_size_for_each_prompt(photo, weights, tmp_path):
    count(photo, "dots", "red dots", "--heatmap", tmp_path / "map.png", weights=weights)

    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width * picture.height >= 2 * 60 * 90


def test_similarity_is_drawn_over_the_photo(photo, weights, tmp_path):
    result = count(photo, "dots", "--similarity", tmp_path / "map.png", weights=weights)

    assert result.exit_code == 0
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width >= 90


def test_a_photograph_comes_from_stdin(photo, weights, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(photo.read_bytes())

    named = count(photo, "dots", "--json", weights=weights)
    monkeypatch.setattr("clipcount_cli.commands.count.sys", type("sys", (), {"stdin": Stdin}))
    piped = count("-", "dots", "--json", weights=weights)

    assert json.loads(piped.stdout)["results"] == json.loads(named.stdout)["results"]


def test_messages_call_a_piped_image_stdin(weights):
    stack, page = io.BytesIO(), Image.new("L", (90, 60))
    page.save(stack, "TIFF", save_all=True, append_images=[page])

    result = count("-", "dots", weights=weights, input=stack.getvalue())

    assert "stdin: counting page 1 of 2 (choose with --page)\n" in result.stderr
    assert "in stdin:\n" in result.stderr


def test_an_empty_prompt_is_refused_before_anything_is_read(weights):
    result = count("nowhere.jpg", "dots", "", weights="nowhere")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: a prompt is empty\n"
        'hint: name what to count: clipcount count nowhere.jpg "red apples"\n'
    )


def test_a_file_that_is_no_image_comes_with_a_hint(weights, tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")

    result = count(tmp_path / "text.jpg", "dots", weights=weights)

    assert result.stderr.endswith(
        "text.jpg is text, not an image\nhint: name an image, such as photo.jpg\n"
    )


def test_a_closed_stdin_is_told_in_words(weights, monkeypatch):
    monkeypatch.setattr("clipcount_cli.commands.count.sys", type("sys", (), {"stdin": None}))

    result = count("-", "dots", weights=weights)

    assert result.exit_code == 1
    assert "stdin is closed" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_stdout_is_told_in_words(options, photo, weights, monkeypatch, capfd):
    arguments = ["count", str(photo), "dots", "-q", "--weights", str(weights), *options]

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            app(arguments)

    assert ended.value.code == 1
    assert capfd.readouterr().err.startswith("error: no space left to write stdout")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_version_that_cannot_be_told_is_an_error_in_words(monkeypatch, capfd):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            app(["--version"])

    assert ended.value.code == 1
    assert capfd.readouterr().err.startswith("error: no space left to write stdout")


def test_a_closed_stdout_is_told_in_words(photo, weights, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", None)

    with pytest.raises(SystemExit) as ended:
        app(["count", str(photo), "dots", "--weights", str(weights)])

    assert ended.value.code == 1
    assert "error: stdout is closed" in capfd.readouterr().err


@pytest.mark.parametrize("size", [(1, 1), (384, 384), (50, 700), (700, 50), (1, 40)])
def test_every_shape_of_photograph_is_counted(size, weights, tmp_path):
    Image.new("RGB", size, (90, 120, 60)).save(tmp_path / "shape.png")

    result = count(tmp_path / "shape.png", "dots", weights=weights)

    assert result.exit_code == 0, result.stderr


def test_tiles_see_more_pixels(photo, weights, tmp_path):
    result = count(photo, "dots", "--tiles", 2, "--density", tmp_path / "d.npy", weights=weights)

    assert result.exit_code == 0
    assert np.load(tmp_path / "d.npy").shape == (1, 768, 1152)


def test_a_portrait_is_counted_along_its_height(weights, tmp_path):
    Image.new("RGB", (60, 150)).save(tmp_path / "tall.png")

    result = count(tmp_path / "tall.png", "dots", "--density", tmp_path / "d.npy", weights=weights)

    assert result.exit_code == 0
    assert np.load(tmp_path / "d.npy").shape == (1, 960, 384)


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(photo, weights, tmp_path):
    picture = tmp_path / "map.png"
    picture.write_bytes(b"mine")

    refused = count(photo, "dots", "--heatmap", picture, weights=weights)
    kept = picture.read_bytes()
    replaced = count(photo, "dots", "--heatmap", picture, "--overwrite", weights=weights)

    assert (refused.exit_code, kept) == (2, b"mine")
    assert "--overwrite" in refused.stderr
    assert replaced.exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["nowhere.jpg", "dots"], 1, "nowhere.jpg"),
        (["{photo}", " "], 2, "empty"),
        (["{photo}", "dots", "--device", "cuda:7"], 1, "--device cpu"),
        (["nowhere.jpg", "dots", "--device", "toaster"], 2, "toaster"),
        (["{photo}", "dots", "--device", "cuda:99999999999999999999"], 2, "cuda:0"),
        (["{photo}", "dots", "--precision", "fp16"], 1, "bf16"),
        (["{photo}", "dots", "--precision", "fp8"], 2, "fp8"),
        (["{photo}", "dots", "--heatmap", "nowhere/map.png"], 2, "create the folder nowhere, or"),
        (["nowhere.jpg", "dots", "--heatmap", "map.gif"], 2, ".png"),
        (["nowhere.jpg", "dots", "--similarity", "map"], 2, ".png"),
        (["{photo}", "dots", "--heatmap", "map.png", "--similarity", "./map.png"], 2, "two"),
        (["{photo}", "dots", "--heatmap", "map.png", "--density", "map.png"], 2, "two"),
        (["{photo}", "dots", "--overwrite", "--heatmap", "{photo}"], 2, "is an input"),
        ([f"{'x' * 300}.png", "dots"], 1, "cannot be read"),
        (["{photo}"], 2, "PROMPT"),
    ],
)
def test_a_mistake_gets_one_clear_message_and_its_exit_code(options, code, said, photo, weights):
    arguments = [option.format(photo=photo) for option in options]

    result = run(app, ["count", *arguments, "--weights", str(weights)])

    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_photograph_is_not_drawn_over_by_another_of_its_names(photo, weights, tmp_path):
    (tmp_path / "link.png").hardlink_to(photo)
    before = photo.read_bytes()

    result = count(
        tmp_path / "link.png", "dots", "--overwrite", "--similarity", photo, weights=weights
    )

    assert result.exit_code == 2
    assert photo.read_bytes() == before


def test_a_picture_that_cannot_be_written_costs_neither_counts_nor_density(
    photo, weights, tmp_path
):
    too_long, maps = tmp_path / f"{'x' * 300}.png", tmp_path / "d.npy"

    result = count(photo, "dots", "--heatmap", too_long, "--density", maps, weights=weights)

    assert result.exit_code == 1
    assert result.stdout.endswith("\tdots\n")
    assert "cannot write" in result.stderr
    assert np.load(maps).shape == (1, 384, 576)


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/small.safetensors"])
def test_an_overlong_name_of_weights_is_told_in_words(name, photo):
    result = count(photo, "dots", weights=name)

    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert f"{name} are installed" in result.stderr or f"{name} does not exist" in result.stderr


def test_offline_forbids_the_network(photo, weights, monkeypatch):
    monkeypatch.setenv("CLIPCOUNT_OFFLINE", "0")

    result = count(photo, "dots", "--offline", weights=weights)

    assert result.exit_code == 0
    assert cache.offline()


@pytest.mark.parametrize("command", ["count", "batch", "eval", "train", "download-weights"])
def test_every_command_may_be_told_to_stay_offline(command):
    assert "--offline" in run(app, [command, "--help"], env={"COLUMNS": "300"}).stdout


@pytest.mark.parametrize("variables", [{"RANK": "x"}, {"RANK": "1"}, {"WORLD_SIZE": "many"}])
def test_variables_that_torchrun_did_not_set_are_passed_over(variables, photo, weights):
    result = count(photo, "dots", weights=weights, env=variables)

    assert result.exit_code == 0
    assert "photo[red].png" in result.stderr


def test_unknown_weights_name_what_is_at_hand(photo, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path))

    result = run(app, ["count", str(photo), "dots", "--weights", "huge"])

    assert result.exit_code == 1
    assert "tiny" in result.stderr


def test_weights_that_hide_part_of_a_prompt_say_what_they_read(photo, released):
    apples = count(photo, "red apples", weights=released)
    onions = count(photo, "red onions", weights=released)
    single = count(photo, "cars", weights=released)

    assert '"red apples" is read as "red"' in apples.stderr
    assert apples.stdout.split("\t")[0] == onions.stdout.split("\t")[0]
    assert "the prompt has no effect" in single.stderr


def test_a_word_that_weights_were_never_taught_is_told(photo, tmp_path):
    weights = save_small(tmp_path / "few_words.safetensors", readout="eot")

    assert 'never taught "zebras"' in count(photo, "red zebras", weights=weights).stderr


def test_a_word_that_weights_only_know_as_absent_is_told(photo, tmp_path):
    taught = ("red", "apples", "bottle caps")
    weights = save_small(tmp_path / "apples.safetensors", readout="eot", taught=taught)

    told = count(photo, "red apple", "bottle", "red bottle caps", weights=weights).stderr

    assert 'never taught "apple"' in told
    assert 'never taught "bottle"' in told
    assert "caps" not in told
    assert "never taught" not in count(photo, "Red apples", weights=weights).stderr


def test_quiet_leaves_stdout_alone_and_silences_the_rest(photo, weights):
    quiet = count(photo, "dots", "-q", weights=weights)

    assert quiet.stderr == ""
    assert quiet.stdout.endswith("\tdots\n")


def test_python_and_shell_give_the_same_count(photo, weights):
    [result] = load_counter(weights, precision="fp32").count(photo, "dots")
    shell = count(photo, "dots", "--json", "--precision", "fp32", weights=weights)

    assert json.loads(shell.stdout)["results"] == [{"prompt": "dots", "count": result.count}]
    assert result.count == pytest.approx(result.density.sum(dtype=np.float64))


def test_an_image_array_a_picture_and_a_path_are_all_counted(photo, weights):
    counter = load_counter(weights, precision="fp32")
    picture = Image.open(photo)

    counts = [counter.count(image, "dots")[0].count for image in (photo, str(photo), picture)]

    assert counts == [counter.count(np.asarray(picture), "dots")[0].count] * 3


def test_python_counts_nothing_where_nothing_is_asked(photo, weights):
    assert load_counter(weights).count(photo, []) == []


@pytest.mark.parametrize(
    ("question", "said"),
    [({"prompts": ""}, "empty"), ({"prompts": ["dots", " "]}, "empty"), ({"tiles": 0}, "0 tiles")],
)
def test_python_refuses_what_the_shell_refuses(question, said, photo, weights):
    with pytest.raises(UsageError, match=said):
        load_counter(weights).count(photo, **{"prompts": "dots", **question})


def test_python_refuses_a_device_that_no_machine_has(weights):
    with pytest.raises(UsageError, match="toaster"):
        load_counter(weights, device="toaster")
