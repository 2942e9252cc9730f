"""Three fences: who may import whom, what `--help` loads, and how long things grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clipcount_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES_PER_FILE = 430
MAX_LINES_PER_FUNCTION = 60

# From the ground up; a module may import its own row and those below. Longest prefix decides.
ROWS = [
    ("version", "errors", "distributed"),
    ("devices", "config", "files"),
    ("counting",),
    ("weights", "data", "console"),
    ("api", "evaluation", "interrupts"),
    ("training", "batch"),
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


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_nothing_above_it(path):
    name = name_of(path)
    if path.name == "__init__.py":
        return
    above = [other for other in imports_of(path) if row_of(other) > row_of(name)]

    assert above == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
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


def test_the_command_line_loads_nothing_heavy():
    script = (
        "import sys; from typer.testing import CliRunner; from clipcount_cli.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "heavy = {'torch', 'open_clip', 'matplotlib', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_package_loads_nothing_heavy():
    script = "import sys, clipcount_cli; assert not {'torch', 'numpy', 'typer'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", script], check=True)
