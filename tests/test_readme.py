"""Every command in README runs as it stands, but for those whose comment says what they need."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clipcount_cli.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
CONSOLE = [block for kind, block in BLOCKS if kind == "console"]
COMMANDS = re.findall(r"^\$ clipcount ([^\n#]*)$", "\n".join(CONSOLE), flags=re.MULTILINE)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, nothing installed by a user, no network."""
    examples = "clipcount_cli/assets/examples"
    shutil.copytree(ROOT / examples, tmp_path / examples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLIPCOUNT_OFFLINE", "1")
    return tmp_path


def test_readme_shows_every_command():
    assert {command.split()[0] for command in re.findall(r"^\$ clipcount (.*)$", README, re.M)} == {
        "count", "batch", "train", "eval", "download-weights",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, checkout):
    result = CliRunner().invoke(app, shlex.split(command))

    assert result.exit_code == 0, result.stderr


def test_the_first_example_prints_what_the_readme_shows(checkout):
    command, shown = re.search(r"\$ clipcount (count .*)\n([\d.]+)\t", README).groups()

    result = CliRunner().invoke(app, shlex.split(command))

    assert float(result.stdout.split("\t")[0]) == pytest.approx(float(shown), rel=0.02)


def test_the_python_of_the_readme_runs(checkout, capsys):
    [code] = [block for kind, block in BLOCKS if kind == "python"]

    exec(compile(code, "README.md", "exec"), {})

    assert capsys.readouterr().out.startswith("coins ")


def test_every_file_that_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)

    assert [link for link in links if not (ROOT / link).exists()] == []
