"""What `clipcount train` refuses, it refuses before it touches anything."""

from __future__ import annotations

import dataclasses

import pytest
from small_models import save_small
from small_training import run_train

from clipcount_cli.config import TrainConfig

SHORT = ("--epochs", 2, "--batch", 4, "--device", "cpu", "--precision", "fp32")
NUMBERS = [
    field.name.replace("_", "-")
    for field in dataclasses.fields(TrainConfig)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier run, which holds weights and a log."""
    run = tmp_path / "run"
    run.mkdir()
    save_small(run / "last.safetensors")
    (run / "log.csv").write_text("an earlier one")
    return run


def cut_off(data):
    photograph = data / "images" / "0.png"  # of train; its header is whole, its pixels are not
    photograph.write_bytes(photograph.read_bytes()[:-2000])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "mistake",
    [
        ("--data", "nowhere"),
        ("--init", "nonexistent"),
        ("--seed", -1),
        ("--heads", 3),
        ("--batch", 0),
    ],
)
def test_a_refused_start_overwrites_nothing(mistake, data, weights, earlier):
    before = contents(earlier)

    result = run_train(
        *("--data", data, "--init", weights, "--out", earlier, "--overwrite", *SHORT, *mistake)
    )

    assert result.exit_code in (1, 2)
    assert contents(earlier) == before


def test_unreadable_photographs_overwrite_nothing(data, weights, earlier):
    before = contents(earlier)
    cut_off(data)

    result = run_train("--data", data, "--init", weights, "--out", earlier, "--overwrite", *SHORT)

    assert result.exit_code == 1
    assert contents(earlier) == before


def test_a_run_may_start_from_the_weights_it_overwrites(data, earlier):
    result = run_train(
        *("--data", data, "--init", earlier / "last.safetensors", "--out", earlier, *SHORT),
        "--overwrite",
    )

    assert result.exit_code == 0, result.output
    assert "an earlier one" not in (earlier / "log.csv").read_text()


def test_an_overwritten_run_does_not_go_on_from_the_earlier_checkpoint(data, weights, tmp_path):
    run = tmp_path / "run"
    arguments = ("--data", data, "--init", weights, "--out", run, *SHORT)
    run_train(*arguments)
    before = (run / "checkpoint.pt").stat().st_mtime_ns

    result = run_train(*arguments, "--overwrite", "--seed", 1)

    assert result.exit_code == 0, result.output
    assert (run / "checkpoint.pt").stat().st_mtime_ns > before
    assert len((run / "log.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("broken", ["table", "photograph"])
def test_a_refused_start_leaves_no_empty_folder_behind(broken, data, weights, tmp_path):
    if broken == "table":
        (data / "points.csv").write_text("nothing")
    else:
        cut_off(data)

    result = run_train(
        *("--data", data, "--init", weights, "--out", tmp_path / "runs" / "first", *SHORT),
        *("--cache-gb", 0),  # the photographs before it are kept in a file in RUN
    )

    assert result.exit_code == 1
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_that_was_there_stays(data, weights, tmp_path):
    (tmp_path / "run").mkdir()
    cut_off(data)

    run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "nan"])
def test_no_number_may_be_below_its_range_or_no_number_at_all(name, value, data, tmp_path):
    result = run_train("--data", data, "--out", tmp_path / "run", f"--{name}", value)

    assert result.exit_code == 2
    assert f"--{name}" in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--dropout", 2), "--dropout must be from 0 to below 1, not 2.0"),
        (("--drop-path", 1), "--drop-path must be from 0 to below 1"),
        (("--beta1", 1.5), "--beta1 must be from 0 to below 1"),
        (("--ema-decay", 1.5), "--ema-decay must be from 0 to below 1"),
        (("--scale", 1), "--scale must be from 0 to below 1"),
        (("--mask-keep-fraction", 0), "--mask-keep-fraction must be above 0, at most 1"),
        (("--warmup-fraction", 2), "--warmup-fraction must be from 0 to 1"),
        (("--depth", 0, "--interaction", "naive"), "--depth must be 1 or more"),
        (("--seed", 2**63), "--seed must be from 0 to"),
        (("--target-side-px", 400), "--target-side-px must be from 1 to 384"),
        (("--batch", 0), "--batch must be 1 or more, not 0"),
        (("--occupied-threshold", 99), "--occupied-threshold must be below 0.597"),
        (("--heads", 3), "--heads must divide the network's width of 16, not 3"),
    ],
)
def test_a_number_beyond_its_range_is_refused_with_the_range(
    options, told, data, weights, tmp_path
):
    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *options)

    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_a_context_that_leaves_no_room_for_a_prompt_is_refused(data, tmp_path):
    plain = save_small(tmp_path / "plain.safetensors", context_tokens=0)
    arguments = ("--data", data, "--init", plain, "--out", tmp_path / "run", *SHORT)

    refused = run_train(*arguments, "--context-tokens", 75)
    longest = run_train(*arguments, "--context-tokens", 74)

    assert refused.exit_code == 2
    assert "--context-tokens must be below 75" in refused.stderr
    assert longest.exit_code == 0, longest.output


@pytest.mark.parametrize(
    "options", [("--recipe", "released"), ("--recipe", "paper"), ("--contrast-epochs", 2)]
)
def test_a_contrastive_stage_that_takes_every_epoch_is_refused(options, data, weights, tmp_path):
    arguments = ("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT, *options)

    refused = run_train(*arguments)
    without = run_train(*arguments, "--contrast", "none")

    assert refused.exit_code == 2
    assert "all 2 epochs are the contrastive stage" in refused.stderr
    assert "lower --contrast-epochs or raise --epochs" in refused.stderr
    assert without.exit_code == 0, without.output


def test_a_missing_data_set_is_a_missing_option():
    result = run_train("--init", "tiny")

    assert result.exit_code == 2
    assert result.stderr == (
        "error: missing option '--data'\nhint: name the folder of the data set: --data DIR\n"
    )
