"""Make an entry for RECEIVER_CREDENTIALS_FILE: print it, or add it to a file with --append.

`user NAME` asks for a password, or reads it as a line from standard input, for `basic_auth` of
Prometheus and for browsers. `token` makes a random token, for `authorization`: the token itself
goes to standard error, so that only its digest is redirected into the file.

`--append FILE` creates the file if it does not exist, keeps its content, and refuses a name that
exists already. A running receiver reads the changed file within a second or two. `--may read`
makes a credential for Grafana or another Prometheus that cannot write, `--may write` one that
cannot read rows.

Examples:
    receiver credential user prometheus --append credentials.yml
    receiver credential token --append credentials.yml
    receiver credential token >> credentials.yml
"""

from __future__ import annotations

import getpass
import locale
import secrets
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, get_args

import bcrypt

from receiver.config.sections import Section
from receiver.config.settings import Settings
from receiver.errors import SetupError
from receiver.security.credentials import May, digest_token, parse_text
from receiver.security.insertion import Entry, dump, insert, require_new, sections
from receiver.security.passwords import LONGEST
from receiver.security.replacing import edit, look

SETTINGS: Final[tuple[Section, ...]] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """Add the kind of credential and its options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", help="what to make")
    user = kinds.add_parser("user", help="a user with a password")
    user.add_argument("name", metavar="NAME", type=user_name, help="such as prometheus")
    token = kinds.add_parser("token", help="a random token")
    for kind in (user, token):
        kind.add_argument(
            "--append",
            metavar="FILE",
            type=Path,
            help="add it to this credentials file instead of printing it",
        )
        kind.add_argument(
            "--may",
            choices=get_args(May),
            help="allow only reading (pages, remote read) or only writing; default: both",
        )


def user_name(text: str) -> str:
    """Read a user's name.

    Raises:
        ArgumentTypeError: it cannot be sent in a header.
    """
    if not text or ":" in text or not text.isprintable():
        raise ArgumentTypeError("must be printable text without a colon")
    return text


async def run(settings: Settings, arguments: Namespace) -> int:
    """Make a credential, and print it as YAML or add it to a file.

    Raises:
        SetupError: the password cannot be used, or the file cannot be changed.
    """
    del settings
    add: Callable[[Entry], None] = partial(print_entry, may=arguments.may)
    if arguments.append is not None:
        add = partial(append_entry, arguments.append, may=arguments.may)
    if arguments.kind == "user":
        if arguments.append is not None:
            # Checked before asking for the password.
            place = str(arguments.append)
            require_new(parse_text(look(arguments.append), place), arguments.name, place)
        add({arguments.name: hash_password(read_password())})
    else:
        token = secrets.token_hex(32)
        add([digest_token(token).hex()])
        print(f"the token, for the sender: {token}", file=sys.stderr)  # noqa: T201  the point of it
    return 0


def print_entry(entry: Entry, *, may: May | None) -> None:
    """Print the content of a credentials file with only this entry."""
    print(dump(sections(entry, may)), end="")  # noqa: T201  the command's result


def append_entry(file: Path, entry: Entry, *, may: May | None) -> None:
    """Add an entry to a credentials file.

    Raises:
        SetupError: the file cannot be changed, or has a user of that name.
    """
    edit(file, lambda text: insert(text, entry, str(file), may))
    print(f"added to {file}", file=sys.stderr)  # noqa: T201  standard output is for entries


def read_password() -> bytes:
    """Ask for a password twice, without showing it, or read it if standard input is not a terminal.

    Raises:
        SetupError: the two differ, or standard input is empty.
    """
    if not sys.stdin.isatty():
        try:
            line = sys.stdin.readline()
        except OSError:
            raise SetupError("standard input is closed: no password can be read from it") from None
        except UnicodeDecodeError as error:
            raise SetupError(f"the password is not text in {error.encoding}") from None
        return as_sent(line.rstrip("\r\n"), sys.stdin.encoding).removeprefix(BOM_UTF8)
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise SetupError("the two passwords differ")
    return as_sent(password, locale.getencoding())


def as_sent(text: str, encoding: str | None) -> bytes:
    """Return a password in UTF-8, as senders and browsers encode it.

    Text in UTF-8 is often read in a locale of another encoding.
    """
    with suppress(UnicodeError):
        read = text.encode(encoding or "utf-8", errors="surrogateescape")
        read.decode("utf-8")
        return read
    return text.encode(errors="surrogateescape")


def hash_password(password: bytes) -> str:
    """Return the bcrypt hash of a password.

    Raises:
        SetupError: it is empty, or too long for bcrypt.
    """
    if not password:
        raise SetupError(
            "the password is empty; without a terminal, it is read from standard input"
        )
    if len(password) > LONGEST:
        raise SetupError(f"the password has {len(password)} bytes; bcrypt allows up to {LONGEST}")
    if b"\0" in password:
        raise SetupError("the password has a NUL byte; is it text in UTF-16?")
    return bcrypt.hashpw(password, bcrypt.gensalt()).decode()
