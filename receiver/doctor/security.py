"""Checks authentication, and the files that it depends on."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from receiver.config.settings import SECRETS_DIR, Settings
from receiver.errors import SettingsError
from receiver.security.credentials import read_credentials
from receiver.security.tls import read_expiry
from receiver.storage.diagnosis.findings import Finding, brief, note, ok, problem, warning

SHORTEST_TOKEN: Final = 16
"""Minimum length of a token in characters; a shorter one could be guessed from its digest."""

EXPIRES_SOON: Final = timedelta(days=14)


async def check_credentials(settings: Settings) -> list[Finding]:
    """Check whether requests need credentials."""
    try:
        users, tokens, _ = read_credentials(settings)
    except SettingsError as error:
        return [problem(str(error))]
    if not settings.requires_credentials:
        return [check_unauthenticated(settings)]
    certificate = ", and a client certificate" if settings.tls_client_ca_file else ""
    found = f"requests need credentials (users: {len(users)}, tokens: {len(tokens)}){certificate}"
    return [ok(found), *weaknesses(settings)]


def check_unauthenticated(settings: Settings) -> Finding:
    """Return the finding for a receiver without credentials."""
    if not settings.listens_beyond_loopback:
        return ok("no credentials are needed; only this machine can reach it")
    return warning(
        f"RECEIVER_LISTEN={settings.listen}: anyone who reaches this machine can write and read",
        "set RECEIVER_BEARER_TOKEN or RECEIVER_CREDENTIALS_FILE; `receiver credential` makes them",
    )


def weaknesses(settings: Settings) -> Iterator[Finding]:
    """Yield findings about weak credentials."""
    if any(len(token) < SHORTEST_TOKEN for token in settings.bearer_tokens):
        yield warning(
            f"RECEIVER_BEARER_TOKEN: a token has less than {SHORTEST_TOKEN} characters",
            "`receiver credential token` makes a safe one",
        )
    if settings.listens_beyond_loopback and settings.tls_cert_file is None:
        yield note(
            "credentials are sent unencrypted over the network",
            "set RECEIVER_TLS_CERT_FILE, unless a proxy or a private network protects them",
        )


async def check_files(settings: Settings) -> list[Finding]:
    """Check whether other users may change the files, or read the key."""
    key = settings.tls_key_file or settings.tls_cert_file
    files = (settings.credentials_file, settings.tls_cert_file, key, settings.tls_client_ca_file)
    # Docker sets the modes of files that it mounts there.
    ours = [f for f in dict.fromkeys(files) if f is not None and SECRETS_DIR not in f.parents]
    return [finding for file in ours for finding in check_mode(file, secret=file == key)]


def check_mode(file: Path, *, secret: bool) -> Iterator[Finding]:
    """Check the mode of a file; a missing one is reported by other checks."""
    mode = file.stat().st_mode if file.exists() else 0
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield warning(f"{file}: other users can write to it", f"chmod go-w {file}")
    if secret and mode & stat.S_IROTH:
        yield warning(f"{file}: every user can read the private key", f"chmod o= {file}")


async def check_certificate(settings: Settings) -> list[Finding]:
    """Check the certificate and its expiry."""
    if settings.tls_cert_file is None:
        return []
    try:
        expiry = datetime.fromtimestamp(read_expiry(settings), UTC)
    except SettingsError as error:
        return [problem(str(error))]
    left = expiry - datetime.now(UTC)
    found = f"RECEIVER_TLS_CERT_FILE={settings.tls_cert_file}: expires in {brief(left)}"
    if left < EXPIRES_SOON:
        return [warning(found, "replace it; the new one is read without a restart")]
    return [ok(found)]


CHECKS: Final = {
    "credentials": check_credentials,
    "files": check_files,
    "certificate": check_certificate,
}
