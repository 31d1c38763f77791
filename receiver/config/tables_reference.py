"""Generates the JSON schema of the tables file, and the reference of its keys in docs/tables.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final, NamedTuple, get_args

import yaml
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import ModelSchema, NullableSchema, WithDefaultSchema

from receiver.config.explaining import kind_of
from receiver.config.table_file import ColumnEntry, Entry, LabelEntry, TableEntry, TablesFile

DOCS: Final = Path(__file__).parents[2] / "docs"
KOREAN_TEXTS: Final = DOCS / "tables.ko.yaml"
SCHEMA: Final = DOCS / "tables.schema.json"
KEYS: Final = re.compile(r"(?<=<!-- keys -->\n).*(?=<!-- end of keys -->)", re.DOTALL)
ENTRIES: Final[dict[str, type[Entry]]] = {
    "The file": TablesFile,
    "A table": TableEntry,
    "A column of a metric": ColumnEntry,
    "A column of a label": LabelEntry,
}
FORMS: Final = {
    "tables": "`{NAME: {…}, …}`",
    "columns": "`{NAME: {…}, …}`",
    "match": "`{LABEL: REGEX, …}`",
    "ignoring": "`[LABEL, …]`",
    "labels": "`{NAME: text, …}`, `{NAME: {…}, …}`",
    "pair_timeout": "`DURATION`",
    "compress_after": "`DURATION`, `off`",
    "retention": "`DURATION`, `off`",
    "metric": "`METRIC`",
    "codes": "`TABLE`",
    "label": "`LABEL`",
}
"""Formats of values, by key, except for those that are one of a few words."""


class Language(NamedTuple):
    """The texts of the reference in one language."""

    document: Path
    head: tuple[str, str, str, str]
    required: str
    titles: Mapping[str, str]
    keys: Mapping[str, Mapping[str, str]]
    """The text of each key, by the English title of its mapping."""


class Schema(GenerateJsonSchema):
    """Generates a schema in which an optional key may be left out, but not null."""

    def nullable_schema(self, schema: NullableSchema) -> dict[str, Any]:
        """Return the schema of a value without null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
        """Return the schema of a value with its default, unless that is None or empty."""
        written = super().default_schema(schema)
        return {k: v for k, v in written.items() if k != "default" or v not in (None, {}, [])}

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        """Return the schema of a mapping without its title, which is the name of the class."""
        return {k: v for k, v in super().model_schema(schema).items() if k != "title"}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401  pydantic's
        """Return False: a key needs no title in addition to its name."""
        del schema
        return False


def languages() -> list[Language]:
    """Return the texts in English, from the code, and in Korean."""
    korean = yaml.safe_load(KOREAN_TEXTS.read_text(encoding="utf-8"))
    described = {
        title: {key: field.description or "" for key, field in entry.model_fields.items()}
        for title, entry in ENTRIES.items()
    }
    require_same(described, korean["keys"])
    return [
        Language(
            DOCS / "tables.md",
            ("Key", "Written as", "Default", "Meaning"),
            "required",
            {title: title for title in ENTRIES},
            described,
        ),
        Language(
            DOCS / "tables.ko.md",
            ("키", "쓰는 법", "기본값", "뜻"),
            "필수",
            korean["titles"],
            korean["keys"],
        ),
    ]


def require_same(
    code: Mapping[str, Mapping[str, str]], korean: Mapping[str, Mapping[str, str]]
) -> None:
    """Check that each key has a Korean text, and that each text belongs to a key.

    Raises:
        SystemExit: a text or a key is missing.
    """
    wanted = {(title, key) for title, keys in code.items() for key in keys}
    found = {(title, key) for title, keys in korean.items() for key in keys}
    if different := wanted ^ found:
        raise SystemExit(f"{KOREAN_TEXTS.name}: other keys than in the code: {sorted(different)}")


def write_keys(language: Language) -> str:
    """Return a table of keys for each kind of mapping."""
    return (
        "".join(
            f"\n### {language.titles[title]}\n\n{write_table(language, title)}\n"
            for title in ENTRIES
        )
        + "\n"
    )


def write_table(language: Language, title: str) -> str:
    """Return the table of keys of one kind of mapping."""
    rows = [language.head, ("---",) * 4]
    for key, field in ENTRIES[title].model_fields.items():
        default = language.required if field.is_required() else default_of(field)
        rows.append((f"`{key}`", write_form(key, field), default, language.keys[title][key]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def default_of(field: FieldInfo) -> str:
    """Return the default of a key; empty if the description states it."""
    default = field.default
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default else ""


def write_form(key: str, field: FieldInfo) -> str:
    """Return the format of a value."""
    kind = kind_of(field) if NoneType in get_args(field.annotation) else field.annotation
    words = ("true", "false") if kind is bool else get_args(kind)
    return FORMS.get(key) or ", ".join(f"`{word}`" for word in words)


def documents() -> Iterator[tuple[Path, str]]:
    """Yield each generated file with its current text.

    Raises:
        SystemExit: a text or the place for one is missing.
    """
    yield SCHEMA, write_schema()
    for language in languages():
        yield language.document, generate(language)


def generate(language: Language) -> str:
    """Return the document with a current reference.

    Raises:
        SystemExit: the document has no place for the reference.
    """
    text = language.document.read_text(encoding="utf-8")
    if not KEYS.search(text):
        raise SystemExit(f"{language.document.name} lacks <!-- keys --> … <!-- end of keys -->")
    return KEYS.sub(lambda _: write_keys(language), text)


def write_schema() -> str:
    """Return the JSON schema of the tables file."""
    schema = TablesFile.model_json_schema(schema_generator=Schema)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "RECEIVER_TABLES_FILE"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"
