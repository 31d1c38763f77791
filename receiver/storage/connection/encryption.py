"""TLS to the database, as its URL and libpq's variables ask for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from receiver.config.database_url import TLS
from receiver.errors import SettingsError, SetupError

VARIABLES: Final = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}
"""Parameters, and the environment variables that apply where the URL does not set them."""

SYSTEM: Final = "system"
"""Stands for the certificate authorities that the system trusts, in place of a file."""
PROTOCOL: Final = "postgresql"
"""Name of the protocol for ALPN."""


def encryption_options(given: Mapping[str, str], hosts: Collection[str]) -> dict[str, Any]:
    """Turn the TLS parameters into arguments for asyncpg.

    Args:
        given: The parameters of a database's URL.
        hosts: Hosts and socket directories; empty: the default ones.

    Raises:
        SettingsError: a file cannot be read, or its contents are not as expected; the message names
            it.
    """
    if hosts and all(host.startswith("/") for host in hosts):
        # Unix sockets are never encrypted; the environment variables are meant for other servers.
        return {"ssl": False, "direct_tls": False}
    tls = {name: value for name, value in given.items() if name in TLS}
    wanted = {name: os.environ.get(name_) for name, name_ in VARIABLES.items()} | tls
    direct = given.get("sslnegotiation")
    options: dict[str, Any] = {"direct_tls": direct and direct == "direct"}
    if wanted["sslmode"] == "disable":
        return options | {"ssl": False}
    context = check_files({name: value for name, value in wanted.items() if value})
    if wanted["sslrootcert"] == SYSTEM:
        return options | {"ssl": context}
    return options | {"dsn": f"postgresql://?{urlencode(tls)}" if tls else None}


def check_files(files: Mapping[str, str]) -> ssl.SSLContext:
    """Load the TLS files into a context, and return it.

    Raises:
        SettingsError: a file cannot be read, or its contents are not as expected.
    """
    system = files.get("sslrootcert") == SYSTEM
    context = ssl.create_default_context() if system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Python 3.13 made this strict flag a default; it refuses certificates that libpq accepts.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = version(files.get("ssl_min_protocol_version", "TLSv1.2"))
    context.maximum_version = version(files.get("ssl_max_protocol_version", "TLSv1.3"))
    context.set_alpn_protocols([PROTOCOL])
    for name in ("sslrootcert", "sslcrl"):
        if name in files and files[name] != SYSTEM:
            with named(files, name):
                context.load_verify_locations(cafile=files[name])
    if "sslcert" in files:
        with named(files, "sslcert", "sslkey"):
            key = files.get("sslkey") or default_key()
            context.load_cert_chain(files["sslcert"], key, lambda: files.get("sslpassword", ""))
    return context


def version(name: str) -> ssl.TLSVersion:
    """Return the TLS version with this name in libpq."""
    return ssl.TLSVersion[name.replace(".", "_")]


def default_key() -> str | None:
    """Return the private key that libpq uses where none is named; None if it does not exist."""
    path = Path(os.environ.get("HOME", "/nonexistent"), ".postgresql/postgresql.key")
    with suppress(OSError):
        return str(path) if path.is_file() else None
    return None


@contextmanager
def named(files: Mapping[str, str], *names: str) -> Iterator[None]:
    """Turn an error on loading files into one that names them.

    Raises:
        SettingsError: a file cannot be read, or its contents are not as expected.
    """
    for name in names:
        if name in files:
            try:
                Path(files[name]).open("rb").close()
            except OSError as error:
                raise SettingsError(
                    f"RECEIVER_DATABASE_URL: cannot read {name}={files[name]}: {error.strerror}"
                ) from None
    try:
        yield
    except ssl.SSLError as error:
        shown = ", ".join(f"{name}={files[name]}" for name in names if name in files)
        raise SettingsError(
            f"RECEIVER_DATABASE_URL: {shown}: invalid content: {error.reason or error}"
        ) from None


def require_home() -> None:
    """Check that the directory in which libpq looks for certificates is accessible.

    Raises:
        SetupError: the directory is not accessible.
    """
    directory = Path(os.environ.get("HOME", "/"), ".postgresql")
    try:
        directory.stat()
    except PermissionError:
        raise SetupError(
            f"cannot look for the database's certificates in {directory}: permission denied; set "
            "HOME to a directory of this user's"
        ) from None
    except OSError:
        return
