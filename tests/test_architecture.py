"""Fences: who may import whom, what `--help` loads, what is installed, how long things grow."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clipcount_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
MAX_LINES_OF_CLI = 160
MAX_LINES_PER_FILE = 430
MAX_LINES_PER_FUNCTION = 60

# From the ground up; a module may import its own row and those below. Longest prefix decides.
ROWS = [
    ("version", "errors", "extras", "distributed", "locks"),
    ("devices", "config", "files"),
    ("counting",),
    ("weights", "data", "console"),
    ("evaluation", "interrupts"),
    ("training", "batch"),
    ("api",),
    ("commands",),
    ("cli",),
    ("__main__",),
]
ROW_OF = {prefix: number for number, prefixes in enumerate(ROWS) for prefix in prefixes}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def row_of(name):
    prefixes = [p for p in ROW_OF if name == p or name.startswith(f"{p}.")]
    assert prefixes, f"{name} stands in no row"
    return ROW_OF[max(prefixes, key=len)]


def imports_of(path):
    """Names of the package's modules that `path` imports, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            if node.module == "clipcount_cli":
                yield from (alias.name for alias in node.names if not alias.name.startswith("__"))
            elif node.module.startswith("clipcount_cli."):
                yield node.module.removeprefix("clipcount_cli.")


def module_of(name):
    """The module that `name` is, or is imported from; None for a package."""
    for candidate in (name, name.rpartition(".")[0]):
        if PACKAGE.joinpath(*candidate.split(".")).with_suffix(".py").is_file():
            return candidate
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_nothing_above_it(path):
    name = name_of(path)
    if path.name == "__init__.py":
        return
    above = [other for other in imports_of(path) if row_of(other) > row_of(name)]

    assert above == []


def test_no_modules_import_each_other_in_a_circle():
    imported = {
        name_of(path): {module for name in imports_of(path) if (module := module_of(name))}
        for path in MODULES
        if path.name != "__init__.py"
    }

    graphlib.TopologicalSorter(imported).prepare()  # raises CycleError


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    functions = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno - node.lineno >= MAX_LINES_PER_FUNCTION
    ]

    assert len(text.splitlines()) <= MAX_LINES_PER_FILE
    assert functions == []


LIGHT = """
import sys
from typer.testing import CliRunner
from clipcount_cli.cli import app

commands = ("count", "batch", "train", "eval", "download-weights")
for words in (
    ["--version"], ["--help"], *([name, "--help"] for name in commands),
    ["download-weights", "--list"], ["count", "no.jpg", "coins", "--unknown"],
):
    result = CliRunner().invoke(app, words, env={"CLIPCOUNT_HOME": sys.argv[1]})
    assert result.exit_code == (2 if "--unknown" in words else 0), result.output
    heavy = {"torch", "torchvision", "open_clip", "matplotlib", "scipy", "PIL"} & {*sys.modules}
    assert not heavy, (words, heavy)
"""


def test_what_counts_nothing_loads_nothing_heavy(tmp_path):
    """In one new process, as a module that was loaded stays so."""
    subprocess.run([sys.executable, "-c", LIGHT, str(tmp_path)], check=True)


def test_importing_the_package_loads_nothing_heavy():
    script = "import sys, clipcount_cli; assert not {'torch', 'numpy', 'typer'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_command_line_itself_stays_short():
    lines = (PACKAGE / "cli.py").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= MAX_LINES_OF_CLI


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_package_needs_nothing_of_the_scripts(path):
    """They are not installed: neither the scenes that training draws, nor what makes `tiny`."""
    text = path.read_text(encoding="utf-8")

    assert not re.search(r"^\s*(from|import) (scripts|scenes|tiny|make_tiny)\b", text, re.M)
