"""Keeps pages of other sites from using a receiver through the browser of somebody who reaches it.

Two ways are closed. A page may send requests to any address, without seeing the answers: such a
request says where it comes from (`Origin`, `Sec-Fetch-Site`), and must not change anything. Or its
own name comes to stand for the receiver's address (DNS rebinding): then it sees the answers too, so
where no credentials are needed, the name by which a browser asks must be one of the receiver's.

Programs that are no browsers are not judged: Prometheus would drop what is refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDictProxy

from receiver.config.settings import Settings
from receiver.errors import ForeignPageError
from receiver.http import paths
from receiver.security.refuser import Refuser

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

STRICTER: Final = frozenset({"/codes"})
"""Forms whose handlers demand a proof of where they come from, and answer people by a page."""

OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site`: a page of this receiver, or a person without any page."""

LOCAL_NAME: Final = re.compile(r"[a-z0-9_-]+|([a-z0-9_-]+\.)*localhost")
"""Names that nobody can register: those without a dot are of a network, such as Compose's."""

PORT: Final = re.compile(r":\d*$")
DEFAULT_PORT: Final = re.compile(r":(80|443)?$")

MOST_SHOWN: Final = 100
"""Characters of a host in an error."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SameSite:
    """Refuses what pages of other sites ask.

    Args:
        settings: Which names the receiver has, and whether it needs credentials.
        refuse: Makes the answers.
    """

    def __init__(self, settings: Settings, refuse: Refuser) -> None:
        self._refuse = refuse
        # A page of another site has no credentials to bring under a name of its own.
        self._checks_names = not settings.guarded
        self._names = {*settings.allowed_host_names, settings.address[0], socket.gethostname()}
        self._names = {name.lower() for name in self._names}

    @property
    def middleware(self) -> Middleware:
        """What stands before every handler."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self.check(request)
            except ForeignPageError as error:
                return self._refuse(request, error)
            return await handler(request)

        return check

    def check(self, request: web.Request) -> None:
        """Judge a request by its headers.

        Raises:
            ForeignPageError: a page of another site asks.
        """
        hosts = find_hosts(request)
        changes = request.method not in READING and request.path not in STRICTER
        if changes and is_foreign(request.headers, hosts):
            raise ForeignPageError(
                "a page of another site must not send this; if it is the receiver's own page "
                "behind a proxy, let the proxy pass the header Host on"
            )
        if self._checks_names and is_for_people(request) and not self._are_ours(hosts):
            named = ", ".join(sorted(hosts))[:MOST_SHOWN] or "no host"
            raise ForeignPageError(
                f"{named!r} is not known as a name of this receiver: add it to "
                "RECEIVER_ALLOWED_HOSTS, or set credentials"
            )

    def _are_ours(self, hosts: set[str]) -> bool:
        return bool(hosts) and all(self._is_ours(PORT.sub("", host)) for host in hosts)

    def _is_ours(self, name: str) -> bool:
        if is_address(name.strip("[]")):
            return True
        name = name.removesuffix(".")
        return name in self._names or LOCAL_NAME.fullmatch(name) is not None


def find_hosts(request: web.Request) -> set[str]:
    """Return all names, with their ports, by which a request says it asks; there should be one."""
    hosts = request.headers.getall("Host", [])
    # A whole URL takes precedence over the header (RFC 9112, section 3.2.2).
    target = [] if request.raw_path.startswith("/") else [host_of(request.raw_path)]
    return {without_default_port(host) for host in (*hosts, *target)}


def host_of(url: str) -> str:
    """Return host and port of a URL, "" if it has none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def without_default_port(host: str) -> str:
    """Return a host as browsers write it, whichever scheme a proxy has."""
    return DEFAULT_PORT.sub("", host.strip().lower())


def is_foreign(headers: CIMultiDictProxy[str], hosts: set[str]) -> bool:
    """Whether a browser says that a request comes from a page of another site."""
    sites = headers.getall("Sec-Fetch-Site", [])
    if any(site not in OWN_SITES for site in sites):
        return True
    if "same-origin" in sites:
        # A proxy may have changed the host since; the browser compared them before.
        return False
    origins = {without_default_port(host_of(text)) for text in headers.getall("Origin", [])}
    return bool(origins) and not (origins == hosts and all(hosts))


def is_for_people(request: web.Request) -> bool:
    """Whether a request is for a page, or a browser has made it; health is for everybody."""
    if request.path.startswith("/-/"):
        return False
    for_programs = request.path.startswith("/api/") or request.path == paths.METRICS
    return not for_programs or is_from_browser(request.headers)


def is_from_browser(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a browser has made a request; a page can change these headers, but remove none."""
    # Some libraries of programs send `*`.
    languages = headers.get("Accept-Language", "*").strip()
    return (
        "Origin" in headers
        or "Sec-Fetch-Site" in headers
        or "mozilla" in headers.get("User-Agent", "").lower()
        or languages != "*"
    )


def is_address(name: str) -> bool:
    """Whether a host is an IP address, which cannot come to stand for another."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
