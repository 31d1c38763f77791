"""Finds the entries of a Prometheus' configuration that are for this receiver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import urlsplit

from receiver.clients.prometheus import public
from receiver.clients.prometheus_model import Remote
from receiver.config.settings import Settings

R = TypeVar("R", bound=Remote)


def to_us(remotes: Iterable[R], settings: Settings, path: str) -> list[R]:
    """Return the entries for this receiver, by port and path, since its host name may differ."""

    def is_ours(url: str) -> bool:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return False
        return port == settings.address[1] and parts.path.endswith(path)

    return [remote for remote in remotes if is_ours(remote.url)]


def listed(remotes: Iterable[Remote]) -> str:
    """Return the URLs as text."""
    return ", ".join(public(remote.url) for remote in remotes)


def lacks_credentials(remote: Remote, settings: Settings) -> bool:
    """Return whether the receiver requires a token or password, and none is configured."""
    wanted = settings.bearer_token is not None or settings.credentials_file is not None
    brought = remote.says("authorization") or remote.says("basic_auth")
    return wanted and not (brought or urlsplit(remote.url).username)
