"""`--help`: grouped, readable at 60 columns, in plain English, without Python types."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from avoided_words import AVOIDED
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.data.recognise import PRIORITY
from clipcount_cli.training.targets import window_targets

COMMANDS = ("count", "batch", "train", "eval", "download-weights")
SCREENS = [(), *((name,) for name in COMMANDS)]
PANELS = {
    "batch": ["Input", "What to count", "Output", "Run", "General"],
    "train": ["Run", "Model", "Optimizer", "Loss", "Augmentation"],
}


def group() -> TyperGroup:
    found = get_command(app)
    assert isinstance(found, TyperGroup)
    return found


def screen(*words: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0, result.output
    return result.stdout


def panels(text: str) -> list[str]:
    return re.findall(r"^([A-Z][\w ]*):$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_the_terminal_and_breaks_no_word(command, columns):
    whole = set(screen(*command, columns=10_000).split())

    narrow = screen(*command, columns=columns)

    assert max(map(len, narrow.splitlines())) <= columns
    assert {word for word in narrow.split() if word != "\\"} <= whole


@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
def test_help_shows_no_python_types(command):
    assert not re.search(r"<\w|\[\[|\{|\.\.\.\.|\brange\b|None|True|False", screen(*command))


@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
def test_help_is_in_plain_english(command):
    words = " ".join(screen(*command).split())

    assert AVOIDED.findall(words) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name):
    command = group().commands[name]

    silent = [p.name for p in command.params if not getattr(p, "help", None)]

    assert silent == []


@pytest.mark.parametrize("name", ["train", "eval"])
def test_help_names_every_format_of_annotations_that_is_read(name):
    words = " ".join(screen(name).split())

    programs = {re.sub(" (points|XML|3)$", "", title) for title in PRIORITY}
    assert [program for program in programs if program not in words] == []


def test_help_states_what_is_counted_by_default():
    words = " ".join(screen("batch").split())

    assert 'the name of each image\'s sub-folder, otherwise "objects".' in words
    assert "each shard needs its own --csv" in words


def test_a_sigmoid_reaches_the_peak_of_a_dot_from_the_sigma_that_help_states():
    stated = re.search(r"above ([\d.]+) its peak is below 1", " ".join(screen("train").split()))
    assert stated
    sigma_px = float(stated[1])

    peaks = [
        window_targets([torch.tensor([[99.5, 99.5]])], 192, sigma).max()
        for sigma in (sigma_px - 0.1, sigma_px)
    ]

    assert peaks[1] < 1 < peaks[0]


@pytest.mark.parametrize("name", PANELS)
def test_options_are_grouped_in_panels(name):
    found = panels(screen(name))

    assert [panel for panel in found if panel in PANELS[name]] == PANELS[name]


def test_the_first_panel_of_train_holds_what_people_use():
    first = screen("train").partition("\nModel:")[0]
    options = re.findall(r"^  (--[\w-]+)", first, flags=re.MULTILINE)

    assert 12 <= len(options) <= 16
    assert {"--data", "--out", "--resume", "--init", "--epochs", "--learning-rate"} <= set(options)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_that_parse(name):
    examples = screen(name, columns=60).partition("\nExamples:\n")[2].replace("\\\n", "")
    lines = [shlex.split(line) for line in examples.splitlines()]

    assert lines
    for program, command, *words in lines:
        assert program == "clipcount"
        known = group().commands[command]
        context = known.make_context(command, words)
        assert context.params


def test_an_unknown_option_is_reported_like_every_other_error():
    result = CliRunner().invoke(app, ["count", "a.jpg", "coins", "--heatmop", "b.png"])

    assert result.exit_code == 2
    assert result.stderr == "error: no such option: --heatmop\nhint: did you mean --heatmap?\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["count", "a.jpg", "coins", "--precision", "int8"], "invalid value for '--precision'"),
        (["count", "a.jpg", "coins", "--channel", "x"], "invalid value for '--channel'"),
        (["count", "a.jpg", "coins", "--heatmap"], "option '--heatmap' requires an argument\n"),
        (["count", "a.jpg", "coins", "--json=1"], "option '--json' does not take a value\n"),
        (["download-weights", "a", "b"], "got unexpected extra argument (b)\n"),
        (["download-weights", "a", "b", "c"], "got unexpected extra arguments (b c)\n"),
    ],
)
def test_a_usage_error_names_its_command_in_the_hint(words, message):
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.splitlines()[-1] == f"hint: run `clipcount {words[0]} --help`"
    assert "unable to parse" not in result.stderr


def test_a_command_that_is_mistyped_is_guessed():
    result = CliRunner().invoke(app, ["counts"])

    assert result.stderr == "error: no such command 'counts'\nhint: did you mean 'count'?\n"


@pytest.mark.parametrize(
    ("typed", "offered"), [("--weights ti", "tiny"), ("--device cu", "cuda"), ("--dev", "--device")]
)
def test_the_shell_completes(typed, offered, tmp_path):
    line = f"clipcount count a.jpg coins {typed}"
    environment = {
        "_CLIPCOUNT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "CLIPCOUNT_HOME": str(tmp_path),
    }

    result = CliRunner().invoke(app, [], env=environment, prog_name="clipcount")

    assert offered in result.stdout.split()
