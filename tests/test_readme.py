"""README and the other documents: commands run, links resolve, figures are of current weights."""

import hashlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clipcount_cli.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "CHANGELOG.md",
        ".github/CONTRIBUTING.md",
        "scripts/README.md",
        "clipcount_cli/assets/ATTRIBUTION.md",
        "clipcount_cli/assets/MODEL_CARD.md",
    )
}
README = DOCUMENTS["README.md"]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
CONSOLE = "\n".join(block for kind, block in BLOCKS if kind == "console")
COMMANDS = re.findall(r"^\$ clipcount ([^\n#]*)$", CONSOLE, flags=re.MULTILINE)
COMMANDS_IN_NEED = re.findall(r"^\$ clipcount ([^\n#]*)# needs", CONSOLE, flags=re.MULTILINE)
SCRIPT_COMMANDS = re.findall(r"python scripts/(\w+)\.py ?([^`\n]*)", "\n".join(DOCUMENTS.values()))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, no weights installed by a user, no network."""
    examples = "clipcount_cli/assets/examples"
    shutil.copytree(ROOT / examples, tmp_path / examples)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLIPCOUNT_OFFLINE", "1")
    return tmp_path


def parse(app, arguments):
    """Read `arguments` as the command would, without running it; a usage error is raised."""
    command = typer.main.get_command(app)
    if hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


def test_readme_is_short_and_opens_with_its_two_commands():
    first_screen = "\n".join(README.splitlines()[:20])

    assert len(README.encode()) <= 10 * 1024
    assert (
        '\npip install . && clipcount count clipcount_cli/assets/examples/coins.jpg "coins"\n'
        in first_screen
    )
    assert '\npip install ".[test]" && pytest\n' in first_screen


def test_readme_shows_every_command():
    assert {command.split()[0] for command in COMMANDS + COMMANDS_IN_NEED} == {
        "count", "batch", "train", "eval", "download-weights",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, checkout):
    result = CliRunner().invoke(app, shlex.split(command))

    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("command", COMMANDS_IN_NEED)
def test_a_command_that_needs_data_or_network_has_its_options(command):
    parse(app, shlex.split(command))


@pytest.mark.parametrize(("script", "options"), SCRIPT_COMMANDS)
def test_a_script_in_the_documents_has_its_options(script, options):
    module = importlib.import_module(script)
    script_app = getattr(module, "app", None) or typer.Typer()
    if not hasattr(module, "app"):
        script_app.command()(module.main)

    parse(script_app, shlex.split(options))


@pytest.mark.parametrize("command", ["fetch", "sheet"])
def test_a_command_of_scenes_has_its_options(command):
    text = "\n".join(DOCUMENTS.values())
    options = re.findall(rf"scripts/scenes {command}[^`\n]*?(--[\w-]+)", text)

    shown = subprocess.run(
        [sys.executable, "scripts/scenes", command, "--help"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert [option for option in options if option not in shown] == []


def test_the_first_example_prints_what_the_readme_shows(checkout):
    command, shown = re.search(r"\$ clipcount (count .*)\n([\d.]+)\t", README).groups()

    result = CliRunner().invoke(app, shlex.split(command))

    assert float(result.stdout.split("\t")[0]) == pytest.approx(float(shown), rel=0.02)


def test_the_python_of_the_readme_runs(checkout, capsys):
    [code] = [block for kind, block in BLOCKS if kind == "python"]

    exec(compile(code, "README.md", "exec"), {})

    assert capsys.readouterr().out.startswith("coins ")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_links_to_exists(document):
    links = re.findall(r"(?:\]\(|src=\")(?!https?://|#)([^)\"]+)[)\"]", DOCUMENTS[document])

    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_figures_of_the_embedded_model_are_of_the_weights_that_ship():
    weights = (ROOT / "clipcount_cli/assets/tiny.safetensors").read_bytes()
    card = DOCUMENTS["clipcount_cli/assets/MODEL_CARD.md"]

    named = set(re.findall(r"tiny@([0-9a-f]{8})", README + card))

    assert named == {hashlib.sha256(weights).hexdigest()[:8]}
    assert f" {len(weights) / 1e6:.0f} MB" in card
    assert f" {len(weights) / 1e6:.0f} MB" in README


def test_pre_commit_and_ci_check_with_the_same_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    hook = re.search(r"ruff-pre-commit\s+rev: v(\d+\.\d+)\.", hooks)[1]

    assert f'"ruff=={hook}.*"' in project
