"""Make an entry for RECEIVER_CREDENTIALS_FILE, and print it; nothing is stored.

`user NAME` asks for a password, or reads it as a line from standard input, for `basic_auth` of
Prometheus. `token` makes a random token, for `authorization`: the token itself goes to standard
error, so that what is redirected into the file is just its digest.

Examples:
    receiver credential user prometheus
    receiver credential token
"""

from __future__ import annotations

import getpass
import secrets
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Final

import bcrypt
import yaml

from receiver.errors import SetupError
from receiver.sections import Section
from receiver.security.credentials import CredentialsFile, digest_token
from receiver.settings import Settings

SETTINGS: Final[tuple[Section, ...]] = ()
LONGEST = 72
"""Bytes of a password that bcrypt takes."""


def add_arguments(parser: ArgumentParser) -> None:
    """Of which kind, and whose."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", help="what to make")
    user = kinds.add_parser("user", help="a user with a password")
    user.add_argument("name", metavar="NAME", type=user_name, help="such as prometheus")
    kinds.add_parser("token", help="a random token")


def user_name(text: str) -> str:
    """Read a user's name.

    Raises:
        ArgumentTypeError: no request can carry it.
    """
    if not text or ":" in text or not text.isprintable():
        raise ArgumentTypeError("must be printable text without a colon")
    return text


async def run(settings: Settings, arguments: Namespace) -> int:
    """Make one, and print it as YAML.

    Raises:
        SetupError: the password cannot be used.
    """
    del settings
    entry: dict[str, object]
    if arguments.kind == "user":
        entry = {"basic_auth_users": {arguments.name: hash_password(read_password())}}
    else:
        token = secrets.token_hex(32)
        print(f"the token, for whoever sends: {token}", file=sys.stderr)  # noqa: T201  the point of it
        entry = {"bearer_tokens": [digest_token(token).hex()]}
    CredentialsFile.model_validate(entry)
    print(yaml.safe_dump(entry, allow_unicode=True), end="")  # noqa: T201  the command's result
    return 0


def read_password() -> str:
    """Ask for a password twice, without showing it, or read it where nobody can be asked.

    Raises:
        SetupError: the two differ.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise SetupError("the two passwords differ")
    return password


def hash_password(password: str) -> str:
    """What is kept of a password.

    Raises:
        SetupError: it is empty, or longer than bcrypt takes.
    """
    encoded = password.encode(errors="surrogateescape")
    if not encoded:
        raise SetupError("the password is empty")
    if len(encoded) > LONGEST:
        raise SetupError(f"the password has {len(encoded)} bytes; bcrypt takes up to {LONGEST}")
    return bcrypt.hashpw(encoded, bcrypt.gensalt()).decode()
