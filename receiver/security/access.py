"""How the receiver's own commands are let in by a receiver."""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

from receiver.config.settings import Settings
from receiver.security.contexts import client_context
from receiver.security.tls import own_tls


class Access(NamedTuple):
    """What a client brings along."""

    headers: dict[str, str]
    tls: ssl.SSLContext | None
    """For HTTPS: what it trusts; None: whatever the system does."""

    def context(self) -> ssl.SSLContext:
        """Return what aiohttp takes as `ssl`."""
        return self.tls or client_context()


PUBLIC: Final = Access({}, tls=None)
"""To a receiver that wants no credentials."""


def bearing(token: str) -> dict[str, str]:
    """The header that brings a token."""
    return {"Authorization": f"Bearer {token}"}


def own_access(settings: Settings) -> Access:
    """To the receiver that runs with the same settings on this machine.

    Where they hold digests only, it has no token to bring.

    Raises:
        SettingsError: the certificate cannot be read.
    """
    tokens = settings.bearer_tokens
    return Access(bearing(tokens[0]) if tokens else {}, own_tls(settings))
