"""Authenticates the receiver's own commands to a receiver."""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

from receiver.config.settings import Settings
from receiver.security.contexts import client_context
from receiver.security.tls import own_tls


class Access(NamedTuple):
    """Headers and TLS settings of a client."""

    headers: dict[str, str]
    tls: ssl.SSLContext | None
    """The trusted certificates for HTTPS; None: those of the system."""

    def context(self) -> ssl.SSLContext:
        """Return the context for aiohttp's argument `ssl`."""
        return self.tls or client_context()


PUBLIC: Final = Access({}, tls=None)
"""Access to a receiver without authentication."""


def bearing(token: str) -> dict[str, str]:
    """Return the header for a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def own_access(settings: Settings) -> Access:
    """Return the access to the receiver that runs with the same settings on this machine.

    It has no token if the settings hold only digests.

    Raises:
        SettingsError: the certificate cannot be read.
    """
    tokens = settings.bearer_tokens
    return Access(bearing(tokens[0]) if tokens else {}, own_tls(settings))
