"""What users read is in plain English: none of the glossary's words that sound translated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from avoided_words import AVOIDED

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "clipcount_cli/assets/MODEL_CARD.md", "scripts/README.md", "CHANGELOG.md")
MODULES = sorted((ROOT / "clipcount_cli").rglob("*.py"))
SPEAKERS = {"notice", "warn", "detail", "progress"}  # functions of console


def prose(text: str) -> str:
    """Markdown without code and addresses."""
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return " ".join(text.split())


def messages(path: Path) -> Iterator[str]:
    """The words of a module's errors, hints and notices, without what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        spoken = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in SPEAKERS
        if spoken or isinstance(node, ast.Raise):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_avoids_the_words_of_a_translation(name):
    text = prose((ROOT / name).read_text(encoding="utf-8"))

    assert [text[m.start() - 30 : m.end() + 30] for m in AVOIDED.finditer(text)] == []


def test_messages_avoid_the_words_of_a_translation():
    found = [f"{path.name}: {text}" for path in MODULES for text in messages(path)]

    assert len(found) > 500
    assert [text for text in found if AVOIDED.search(text)] == []
