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
"""Parameters, and the variables that hold where the URL says nothing."""

SYSTEM: Final = "system"
"""In place of a file: the authorities that the system trusts."""
PROTOCOL: Final = "postgresql"
"""Name of the protocol in TLS."""


def encryption_options(given: Mapping[str, str], hosts: Collection[str]) -> dict[str, Any]:
    """Turn the parameters of TLS into what asyncpg takes.

    Args:
        given: The parameters of a database's URL.
        hosts: Hosts and directories of sockets; none: the default ones.

    Raises:
        SettingsError: a file cannot be read, or does not hold what it should; it is named.
    """
    if hosts and all(host.startswith("/") for host in hosts):
        # Never encrypted, whatever variables say that are meant for other servers.
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
    """Load the files of TLS; return what holds them all.

    Raises:
        SettingsError: one cannot be read, or does not hold what it should.
    """
    system = files.get("sslrootcert") == SYSTEM
    context = ssl.create_default_context() if system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Strict since Python 3.13: certificates that libpq takes would be refused.
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
    """Find a version of TLS by its name in libpq."""
    return ssl.TLSVersion[name.replace(".", "_")]


def default_key() -> str | None:
    """Find the key that libpq takes where none is named."""
    path = Path(os.environ.get("HOME", "/nonexistent"), ".postgresql/postgresql.key")
    with suppress(OSError):
        return str(path) if path.is_file() else None
    return None


@contextmanager
def named(files: Mapping[str, str], *names: str) -> Iterator[None]:
    """Raise an error that names the files.

    Raises:
        SettingsError: one cannot be read, or does not hold what it should.
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
            f"RECEIVER_DATABASE_URL: {shown}: not what it should hold: {error.reason or error}"
        ) from None


def require_home() -> None:
    """Check that certificates can be looked for where libpq does.

    Raises:
        SetupError: the directory is closed to us.
    """
    directory = Path(os.environ.get("HOME", "/"), ".postgresql")
    try:
        directory.stat()
    except PermissionError:
        raise SetupError(
            f"{directory} cannot be looked into, where certificates for the database would be: set "
            "HOME to a directory of this user's"
        ) from None
    except OSError:
        return
