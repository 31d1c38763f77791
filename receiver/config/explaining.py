"""Explains what is wrong with a setting or an entry of a file, and which values are allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from receiver.config.suggestions import did_you_mean
from receiver.config.value_types import SIZES, write_duration, write_size

LONGEST: Final = 100
"""Maximum number of characters of a wrong value in a message."""
NOUNS: Final[dict[object, str]] = {
    int: "a whole number",
    float: "a number",
    timedelta: "a duration",
    ByteSize: "a size",
}
MAPPING: Final = "must be a mapping, with a line `name: …` for each entry"
SHAPES: Final = {
    "string_type": "must be text",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "time_delta_type": "must be a duration, such as 7d",
    "too_short": "must not be empty",
    "greater_than": "must be longer than 0s",
    "missing": "is missing",
}


def explain(
    fault: ErrorDetails, field: FieldInfo | None, *, secret: bool = False, place: str = ""
) -> str:
    """Return one sentence with the setting, its value unless secret, and what is allowed.

    Args:
        fault: The error that pydantic reports.
        field: The setting; None if the error is about several settings and its text names them.
        secret: Whether the value must not be shown.
        place: File and line of the value, if it is from a file.
    """
    # The receiver's validators state what is allowed; pydantic's messages are for programmers.
    own = fault["type"] == "value_error"
    reason = fault["msg"].removeprefix("Value error, ") if own else ""
    if field is None:
        return reason
    if not own:
        reason = allowed(field) + did_you_mean(str(fault["input"]), choices(field))
    shown = "" if secret else f"={show(fault['input'])}"
    where = f" ({place})" if place else ""
    return f"RECEIVER_{str(fault['loc'][0]).upper()}{shown}{where}: {reason}"


def reason_of(fault: ErrorDetails) -> str:
    """Describe what an entry of a file must be."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        words = re.findall(r"'(\w+)'", context["expected"])
        return one_of(words) + did_you_mean(str(fault.get("input", "")), words)
    return SHAPES.get(kind, fault["msg"])


def unknown_key(key: object, keys: Sequence[str], what: str) -> str:
    """Describe the keys that are allowed in place of an unknown one.

    Args:
        key: The unknown key.
        keys: The allowed keys.
        what: What has the key, such as "a table".
    """
    return f"is not a key of {what}{did_you_mean(str(key), keys)}, which can have {', '.join(keys)}"


def one_of(words: Sequence[str]) -> str:
    """Describe a value that must be one of several words."""
    return f"must be {', '.join(words[:-1])} or {words[-1]}"


def show(value: object) -> str:
    """Return a wrong value as one line, shortened if it is long."""
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text if text.isprintable() else repr(text)


def allowed(field: FieldInfo) -> str:
    """Describe the allowed values, with the default as an example if there are bounds or a unit."""
    if words := choices(field):
        return one_of(words)
    kind, default = kind_of(field), default_text(field)
    example = f", such as {default}" if default and default != "off" else ""
    off = ", or off" if field.annotation == int | None else ""
    return f"must be {NOUNS.get(kind, 'text')}{bounds(field)}{off}{example}"


def kind_of(field: FieldInfo) -> object:
    """Return the type of a setting's value, other than None."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    return kinds[0] if kinds else field.annotation


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the choices of a setting; empty if it has none."""
    if field.annotation is bool:
        return "true", "false"
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def bounds(field: FieldInfo) -> str:
    """Describe the limits of a setting's value, to follow a noun; empty if there are none."""
    limits = field.metadata
    write = write_bytes if kind_of(field) is ByteSize else write_value
    lower = [f" above {write(limit.gt)}" for limit in limits if isinstance(limit, Gt)]
    lower += [f" from {write(limit.ge)}" for limit in limits if isinstance(limit, Ge)]
    upper: list[Any] = [limit.le for limit in limits if isinstance(limit, Le)]
    return "".join(lower[:1]) + (f" to {write(min(upper))}" if upper else "")


def write_bytes(size: Any) -> str:  # noqa: ANN401  a limit may be of any type
    """Return a size with a unit."""
    return f"{size}B" if size < min(SIZES.values()) else write_size(size)


def default_text(field: FieldInfo) -> str:
    """Return a setting's default in the format of its values; empty if there is none."""
    if field.default is None and field.annotation in {timedelta | None, int | None}:
        return "off"
    return "" if field.default in {None, PydanticUndefined} else write_value(field.default)


def write_value(value: object) -> str:
    """Return a value in the format of settings."""
    if isinstance(value, timedelta):
        return write_duration(value)
    if isinstance(value, ByteSize):
        return write_size(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
