"""The credentials of clients, kept as digests only.

The file has the format of Prometheus' `web.yml`, with tokens:

    basic_auth_users:
      NAME: bcrypt hash
    bearer_tokens:
      - SHA-256 digest, in hexadecimal
    may:
      NAME or digest: read or write, if not both

A key may occur twice, as happens when entries are appended; its values are merged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple, Self, TypeAlias

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)

from receiver.config import yaml_errors
from receiver.config.explaining import reason_of, unknown_key
from receiver.config.settings import Settings
from receiver.errors import SettingsError
from receiver.security.files import read_text
from receiver.security.merging import DuplicateKeyError, MergingLoader

NAME: Final = "RECEIVER_CREDENTIALS_FILE"


May: TypeAlias = Literal["read", "write"]
"""The only thing that a client may do."""


class Credentials(NamedTuple):
    """The accepted credentials."""

    users: dict[str, bytes]
    """The bcrypt hash of each user's password."""
    tokens: tuple[bytes, ...]
    """SHA-256 digests of tokens, which are too long to guess."""
    may: Mapping[str, May] = MappingProxyType({})
    """The permission of each restricted client, by user name, or by token digest in hexadecimal."""


def must_match(pattern: str, fault: str) -> AfterValidator:
    """Return a validator whose error message does not show the value."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


def or_empty(kind: Callable[[], object]) -> BeforeValidator:
    """Return a validator that accepts a key without a value."""
    return BeforeValidator(lambda value: value or kind())


UserName = Annotated[str, must_match(r"[^:\x00-\x1f\x7f]+", "a user's name must not have a colon")]
PasswordHash = Annotated[
    str,
    must_match(
        r"\$2[aby]\$(0[4-9]|1\d|2\d|3[01])\$[./A-Za-z0-9]{53}",
        "must be a bcrypt hash, as `receiver credential user NAME` makes",
    ),
]
TokenDigest = Annotated[
    str,
    must_match(
        r"[0-9a-fA-F]{64}",
        "must be a SHA-256 digest of 64 hexadecimal digits, as `receiver credential token` makes",
    ),
]


class CredentialsFile(BaseModel):
    """The content of RECEIVER_CREDENTIALS_FILE."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    basic_auth_users: Annotated[dict[UserName, PasswordHash], or_empty(dict)] = {}
    bearer_tokens: Annotated[list[TokenDigest], or_empty(list)] = []
    may: Annotated[dict[str, May], or_empty(dict)] = {}

    @model_validator(mode="after")
    def _check_may(self) -> Self:
        tokens = {digest.lower() for digest in self.bearer_tokens}
        for place, name in enumerate(self.may, 1):
            if name not in self.basic_auth_users and name.lower() not in tokens:
                raise ValueError(
                    f"may: entry {place} is neither a user of basic_auth_users nor a digest of "
                    "bearer_tokens"
                )
        return self


def read_credentials(settings: Settings) -> Credentials:
    """Read all credentials: those of the file, and the tokens in the settings.

    Raises:
        SettingsError: the file cannot be read or is invalid; the message shows none of its values.
    """
    tokens = tuple(digest_token(token) for token in settings.bearer_tokens)
    if settings.credentials_file is None:
        return Credentials({}, tokens)
    content = parse(settings.credentials_file)
    return Credentials(
        {name: hashed.encode() for name, hashed in content.basic_auth_users.items()},
        tokens + tuple(map(bytes.fromhex, content.bearer_tokens)),
        {
            name if name in content.basic_auth_users else name.lower(): may
            for name, may in content.may.items()
        },
    )


def parse(file: Path) -> CredentialsFile:
    """Read a credentials file.

    Raises:
        SettingsError: it cannot be read, is invalid, or has no credentials.
    """
    content = parse_text(read_text(NAME, file), f"{NAME}={file}")
    if not (content.basic_auth_users or content.bearer_tokens):
        raise SettingsError(
            f"{NAME}={file}: has no credentials; `receiver credential` makes one, "
            f"and without {NAME} no credentials are needed"
        )
    return content


def parse_text(text: str, place: str) -> CredentialsFile:
    """Read the content of a credentials file, which may be empty.

    Args:
        text: The content.
        place: The file's name, for errors.

    Raises:
        SettingsError: it is invalid; the message shows none of its values.
    """
    try:
        data = yaml.load(text, Loader=MergingLoader)  # noqa: S506  builds only text
        return CredentialsFile.model_validate(data or {})
    except DuplicateKeyError as error:
        raise SettingsError(f"{place}{describe_duplicate(error)}") from None
    except yaml.MarkedYAMLError as error:
        reason = yaml_errors.explain(error) or "is not YAML"
        raise SettingsError(f"{place}, line {yaml_errors.line_of(error)}: {reason}") from None
    except (yaml.YAMLError, RecursionError):
        raise SettingsError(f"{place}: is not YAML") from None
    except ValidationError as error:
        raise SettingsError(f"{place}: {explain(error)}") from None


def describe_duplicate(error: DuplicateKeyError) -> str:
    """Describe a duplicate key by its two lines, without showing it."""
    assert error.problem_mark is not None  # noqa: S101  the loader sets both
    assert error.context_mark is not None  # noqa: S101
    return (
        f", line {error.problem_mark.line + 1}: has the same name as line "
        f"{error.context_mark.line + 1}; remove one of the two"
    )


def explain(error: ValidationError) -> str:
    """Describe the first error and its place, without showing a value."""
    fault = error.errors(include_input=False, include_url=False)[0]
    names = [part for part in fault["loc"] if part != "[key]"]
    place = " ".join(f"entry {part + 1}" if isinstance(part, int) else part for part in names)
    if fault["type"] == "extra_forbidden":
        reason = unknown_key(place, list(CredentialsFile.model_fields), "the file")
    else:
        reason = reason_of(fault)
    return f"{place}: {reason}" if place else reason


def digest_token(token: str) -> bytes:
    """Return the SHA-256 digest of a token."""
    return hashlib.sha256(token.encode()).digest()
