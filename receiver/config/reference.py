"""Generates the tables of docs/configuration.md; run it as `python -m receiver.config.reference`.

English texts come from the settings class, Korean texts from docs/configuration.ko.yaml. The JSON
schema and the reference of the tables file are generated, too. With `--check`, the command writes
nothing and fails if a committed file is not current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from pydantic.fields import FieldInfo

from receiver.config import tables_reference
from receiver.config.explaining import choices, default_text
from receiver.config.flags import placeholder
from receiver.config.sections import SECTIONS
from receiver.config.settings import Settings

DOCS: Final = Path(__file__).parents[2] / "docs"
KOREAN_TEXTS: Final = DOCS / "configuration.ko.yaml"
TABLES: Final = re.compile(r"(?<=<!-- settings -->\n).*(?=<!-- end of settings -->)", re.DOTALL)


class Language(NamedTuple):
    """The texts of a document's tables in one language."""

    document: Path
    head: tuple[str, str, str, str]
    sections: Mapping[str, str]
    settings: Mapping[str, str]


def languages() -> list[Language]:
    """Return the texts in English, from the code, and in Korean.

    Raises:
        SystemExit: a section or setting has no Korean text, or a text belongs to neither.
    """
    korean = yaml.safe_load(KOREAN_TEXTS.read_text(encoding="utf-8"))
    described = {name: field.description or "" for name, field in Settings.model_fields.items()}
    sections = {section.value: section.value for section, names in SECTIONS.items() if names}
    require_same("settings", described.keys(), korean["settings"].keys())
    require_same("sections", sections.keys(), korean["sections"].keys())
    return [
        Language(
            DOCS / "configuration.md",
            ("Variable", "Written as", "Default", "Meaning"),
            sections,
            described,
        ),
        Language(
            DOCS / "configuration.ko.md",
            ("변수", "쓰는 법", "기본값", "뜻"),
            korean["sections"],
            korean["settings"],
        ),
    ]


def require_same(kind: str, code: Set[str], korean: Set[str]) -> None:
    """Check that each name has a Korean text, and that each text belongs to a name.

    Raises:
        SystemExit: a text or a name is missing.
    """
    if missing := code - korean:
        raise SystemExit(f"{KOREAN_TEXTS.name}: {kind} without Korean text: {sorted(missing)}")
    if unknown := korean - code:
        raise SystemExit(f"{KOREAN_TEXTS.name}: there are no such {kind}: {sorted(unknown)}")


def write_tables(language: Language) -> str:
    """Return a table of settings for each section."""
    tables = (
        f"\n### {language.sections[section]}\n\n{write_table(language, names)}\n"
        for section, names in SECTIONS.items()
    )
    return "".join((*tables, "\n"))


def write_table(language: Language, names: tuple[str, ...]) -> str:
    """Return the table of one section."""
    rows = [language.head, ("---",) * 4]
    for name in names:
        field = Settings.model_fields[name]
        default = default_text(field)
        rows.append(
            (
                f"`RECEIVER_{name.upper()}`",
                write_form(name, field),
                f"`{default}`" if default else "",
                language.settings[name],
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_form(name: str, field: FieldInfo) -> str:
    """Return the format of a value: its choices, or its placeholder in the help."""
    words = choices(field) or placeholder(name, field).split("|")
    return ", ".join(f"`{word}`" for word in words)


def generate(language: Language) -> str:
    """Return the document with current tables.

    Raises:
        SystemExit: the document has no place for the tables.
    """
    text = language.document.read_text(encoding="utf-8")
    if not TABLES.search(text):
        raise SystemExit(
            f"{language.document.name} lacks <!-- settings --> … <!-- end of settings -->"
        )
    return TABLES.sub(lambda _: write_tables(language), text)


def documents() -> Iterator[tuple[Path, str]]:
    """Yield each generated file with its current text.

    Raises:
        SystemExit: a text or the place for one is missing.
    """
    for language in languages():
        yield language.document, generate(language)
    yield from tables_reference.documents()


def main() -> None:
    """Write the documents or, with `--check`, compare them.

    Raises:
        SystemExit: a document is not current.
    """
    for document, current in documents():
        if "--check" not in sys.argv:
            document.write_text(current, encoding="utf-8")
        elif current != document.read_text(encoding="utf-8"):
            raise SystemExit(
                f"{document.name} is not current, run python -m receiver.config.reference"
            )


if __name__ == "__main__":
    main()
