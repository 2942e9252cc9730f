"""Read XML from anywhere: entities, which a small file can expand without end, are refused.

annotated.py, [safe_xml.py] <- voc.py, cvat.py
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from clipcount_cli.errors import DataError


def read_xml(path: Path) -> Element:
    """The root element of an XML file; DataError if it is none, or declares entities."""

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path} declares XML entities, which no annotation tool does",
            hint="export the annotations again, or remove the file",
        )

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
        return builder.close()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path} cannot be read as XML: {error}") from error


def text_of(element: Element, path: str, default: str = "") -> str:
    """The stripped text of the child at `path`, or `default` if there is none."""
    return (element.findtext(path) or default).strip()
