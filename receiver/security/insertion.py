"""Inserts an entry into the text of a credentials file; comments and layout are kept."""

from __future__ import annotations

import sys
from contextlib import suppress
from textwrap import indent
from typing import Final, TypeAlias

import yaml

from receiver.errors import SettingsError
from receiver.security.credentials import CredentialsFile, May, parse_text
from receiver.security.merging import is_empty

USERS: Final = "basic_auth_users"
TOKENS: Final = "bearer_tokens"
MAY: Final = "may"
Entry: TypeAlias = dict[str, str] | list[str]
"""A user's name and hash, or the digest of a token."""


def insert(text: str, entry: Entry, place: str, may: May | None = None) -> str:
    """Return the text of a credentials file with another entry.

    Args:
        text: The content so far, which may be empty.
        entry: The entry to add.
        place: The file's name, for errors.
        may: The only thing that its client may do; None: everything.

    Raises:
        SettingsError: the user exists already, or the text is not a credentials file; the message
            shows none of its values.
    """
    content = parse_text(text, place)
    for name in entry if isinstance(entry, dict) else ():
        require_new(content, name, place)
    for key, part in sections(entry, may).items():
        text = insert_part(text, key, part, place)
    return text


def sections(entry: Entry, may: May | None) -> dict[str, Entry]:
    """Return the content that an entry adds, by key of the file."""
    added = {USERS if isinstance(entry, dict) else TOKENS: entry}
    if may is not None:
        added[MAY] = dict.fromkeys(entry, may)
    return added


def insert_part(text: str, key: str, entry: Entry, place: str) -> str:
    """Return the text with the entry added under a key."""
    wanted = extend(parse_text(text, place), key, entry)
    for candidate in (insert_at_key(text, key, entry), insert_at_end(text, key, entry)):
        with suppress(SettingsError):
            if parse_text(candidate, place) == wanted:
                return candidate
    # The layout is unusual: the comments are lost, the credentials are not.
    return dump({name: value for name, value in wanted.model_dump().items() if value})


def require_new(content: CredentialsFile, name: str, place: str) -> None:
    """Check that no user has a name.

    Raises:
        SettingsError: a user has it already.
    """
    if name in content.basic_auth_users:
        raise SettingsError(
            f"{place}: has a user {name!r} already; to give that user another password, remove "
            "the line first"
        )


def extend(content: CredentialsFile, key: str, entry: Entry) -> CredentialsFile:
    """Return the credentials with another entry."""
    known = getattr(content, key)
    return content.model_copy(
        update={key: known | entry if isinstance(entry, dict) else known + entry}
    )


def insert_at_end(text: str, key: str, entry: Entry) -> str:
    """Return the text with the entry under a new key at the end."""
    return insert_lines(text, len(text), dump({key: entry}))


def insert_at_key(text: str, key: str, entry: Entry) -> str:
    """Return the text with the entry after the others of its kind, or at the end."""
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    values = [value for name, value in pairs if name.value == key]
    if not values:
        return insert_at_end(text, key, entry)
    node = values[-1]
    if is_empty(node):
        return insert_lines(text, node.end_mark.index, indent(dump(entry), "  "))
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return insert_into_flow(text, node, entry)
    last = node.value[-1][-1] if isinstance(node, yaml.MappingNode) else node.value[-1]
    lines = indent(dump(entry), " " * node.start_mark.column)
    return insert_lines(text, last.end_mark.index, lines)


def insert_lines(text: str, index: int, lines: str) -> str:
    """Return the text with lines added after the line that contains an index."""
    end = text.find("\n", index)
    before, after = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
    newline = "\r\n" if "\r\n" in text else "\n"
    if before.strip("\ufeff") and not before.endswith("\n"):
        before += newline
    return before + lines.replace("\n", newline) + after


def insert_into_flow(text: str, node: yaml.Node, entry: Entry) -> str:
    """Return the text with the entry added inside the brackets of a flow collection."""
    written = yaml.safe_dump(entry, allow_unicode=True, default_flow_style=True, width=sys.maxsize)
    items = node.value if isinstance(node, yaml.CollectionNode) else []
    if items:
        last = items[-1][-1] if isinstance(items[-1], tuple) else items[-1]
        index, separator = last.end_mark.index, ", "
    else:
        index, separator = node.start_mark.index + 1, ""
    return text[:index] + separator + written.strip()[1:-1] + text[index:]


def dump(entry: object) -> str:
    """Return YAML in block style."""
    return yaml.safe_dump(entry, allow_unicode=True, width=sys.maxsize)
