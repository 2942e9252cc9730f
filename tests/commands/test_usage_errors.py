"""Usage errors of `clipcount`: what was mistyped or left out, and what to type instead."""

import pytest
from typer.testing import CliRunner

from clipcount_cli.cli import app

HELP = "run `clipcount {} --help`"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("count a.jpg coins --tile 2", "did you mean --tiles?"),
        ("count a.jpg coins --model x", "did you mean --weights?"),
        ("count a.jpg coins --heat x.png", "did you mean --heatmap?"),
        (
            "count a.jpg --prompt coins",
            'name what to count: clipcount count photo.jpg "red apples"',
        ),
        ("count a.jpg coins --recursive", HELP),
        ("batch photos --output x.csv", "did you mean --csv?"),
        ("batch photos --batch_size 4", "did you mean --batch-windows?"),
        ("train --data d --lr 1", "did you mean --learning-rate?"),
        ("train --data d --batch-size 4", "did you mean --batch?"),
        ("train --data d --output r", "did you mean --out?"),
        ("train --data d --zzz r", HELP),
        ("eval --data d --output r", "did you mean --csv?"),
    ],
)
def test_an_unknown_option_suggests_only_what_is_alike(words, hint):
    command = words.split()[0]

    result = CliRunner().invoke(app, words.split())

    assert result.exit_code == 2
    assert result.stderr.startswith("error: no such option: --")
    assert result.stderr.splitlines()[-1] == f"hint: {hint.format(command)}"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("count", "argument 'IMAGE'", 'name an image: clipcount count photo.jpg "red apples"'),
        (
            "count photos/coins.jpg",
            "argument 'PROMPT...'",
            'name what to count: clipcount count photos/coins.jpg "red apples"',
        ),
        ("batch photos", "option '--csv'", "name the file to write: --csv counts.csv"),
        ("eval", "option '--data'", "name the folder of the data set: --data DIR"),
    ],
)
def test_what_is_missing_comes_with_an_example(words, message, hint):
    result = CliRunner().invoke(app, words.split())

    assert result.exit_code == 2
    assert result.stderr == f"error: missing {message}\nhint: {hint}\n"
