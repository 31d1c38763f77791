"""Validates values against a JSON schema; supports only the keywords that our schema uses."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any

KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
}
NOTES: Final = frozenset(
    {"$schema", "$defs", "title", "description", "default", "examples", "then", "else"}
)


class Judge:
    """Validates values against a schema.

    Args:
        schema: The schema.
    """

    def __init__(self, schema: dict[str, Json]) -> None:
        self._schema = schema

    def accepts(self, value: Json, schema: Json = None) -> bool:
        """Return whether a value matches the schema, or a part of it."""
        schema = self._schema if schema is None else schema
        if isinstance(schema, bool):
            return schema
        return all(
            getattr(self, f"_{key.strip('$')}_")(value, argument, schema)
            for key, argument in schema.items()
            if key not in NOTES
        )

    def _ref_(self, value: Json, reference: str, _: Json) -> bool:
        return self.accepts(value, self._schema["$defs"][reference.removeprefix("#/$defs/")])

    def _type_(self, value: Json, kinds: str | list[str], _: Json) -> bool:
        names = [kinds] if isinstance(kinds, str) else kinds
        return any(
            isinstance(value, KINDS[name]) and (name != "number" or not isinstance(value, bool))
            for name in names
        )

    def _enum_(self, value: Json, words: list[str], _: Json) -> bool:
        return value in words

    def _const_(self, value: Json, word: str, _: Json) -> bool:
        return bool(value == word)

    def _not_(self, value: Json, schema: Json, _: Json) -> bool:
        return not self.accepts(value, schema)

    def _anyOf_(self, value: Json, schemas: list[Json], _: Json) -> bool:  # noqa: N802  JSON Schema's
        return any(self.accepts(value, schema) for schema in schemas)

    def _allOf_(self, value: Json, schemas: list[Json], _: Json) -> bool:  # noqa: N802  JSON Schema's
        return all(self.accepts(value, schema) for schema in schemas)

    def _if_(self, value: Json, condition: Json, schema: Json) -> bool:
        branch = "then" if self.accepts(value, condition) else "else"
        return self.accepts(value, schema.get(branch, True))

    def _pattern_(self, value: Json, pattern: str, _: Json) -> bool:
        return not isinstance(value, str) or re.search(pattern, value) is not None

    def _minLength_(self, value: Json, least: int, _: Json) -> bool:  # noqa: N802  JSON Schema's
        return not isinstance(value, str) or len(value) >= least

    def _maxLength_(self, value: Json, most: int, _: Json) -> bool:  # noqa: N802  JSON Schema's
        return not isinstance(value, str) or len(value) <= most

    def _minItems_(self, value: Json, least: int, _: Json) -> bool:  # noqa: N802  JSON Schema's
        return not isinstance(value, list) or len(value) >= least

    def _items_(self, value: Json, schema: Json, _: Json) -> bool:
        return not isinstance(value, list) or all(self.accepts(item, schema) for item in value)

    def _minProperties_(self, value: Json, least: int, _: Json) -> bool:  # noqa: N802  JSON Schema's
        return not isinstance(value, dict) or len(value) >= least

    def _required_(self, value: Json, keys: list[str], _: Json) -> bool:
        return not isinstance(value, dict) or set(keys) <= value.keys()

    def _propertyNames_(self, value: Json, schema: Json, _: Json) -> bool:  # noqa: N802  JSON Schema's
        return not isinstance(value, dict) or all(self.accepts(key, schema) for key in value)

    def _properties_(self, value: Json, schemas: dict[str, Json], _: Json) -> bool:
        if not isinstance(value, dict):
            return True
        return all(self.accepts(value[key], schemas[key]) for key in value.keys() & schemas.keys())

    def _additionalProperties_(self, value: Json, allowed: Json, schema: Json) -> bool:  # noqa: N802  JSON Schema's
        if not isinstance(value, dict):
            return True
        others = value.keys() - schema.get("properties", {}).keys()
        return all(self.accepts(value[key], allowed) for key in others)
