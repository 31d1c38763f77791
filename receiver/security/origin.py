"""Keeps pages of other sites from using the receiver through a visitor's browser.

Two attacks are prevented. In cross-site request forgery, a page sends requests to the receiver
without seeing the responses: such a request states its origin (`Origin`, `Sec-Fetch-Site`), and
must not change anything. In DNS rebinding, the page's own name is made to resolve to the receiver's
address, and the page sees the responses too: without authentication, the host in a browser's
request must be one of the receiver's.

Requests of other programs are not checked: Prometheus would drop the samples of a refused request.
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

STRICTER: Final = frozenset({"/codes", "/calendar", "/source"})
"""Paths of forms whose handlers check the origin themselves, and respond with a page."""

OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` for a page of this receiver, or an address typed by a person."""

LOCAL_NAME: Final = re.compile(r"[a-z0-9_-]+|([a-z0-9_-]+\.)*localhost")
"""Names that cannot be registered: those without a dot belong to a network, such as Compose's."""

PORT: Final = re.compile(r":\d*$")
DEFAULT_PORT: Final = re.compile(r":(80|443)?$")

MOST_SHOWN: Final = 100
"""Maximum length of a host in an error message."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SameSite:
    """Refuses requests from pages of other sites.

    Args:
        settings: The receiver's names, and whether it authenticates clients.
        refuse: Builds the responses.
    """

    def __init__(self, settings: Settings, refuse: Refuser) -> None:
        self._refuse = refuse
        # After DNS rebinding, a page has another name, for which the browser has no credentials.
        self._checks_names = not settings.requires_credentials
        self._names = {*settings.allowed_host_names, settings.address[0], socket.gethostname()}
        self._names = {name.lower() for name in self._names}

    @property
    def middleware(self) -> Middleware:
        """The middleware that runs before every handler."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self.check(request)
            except ForeignPageError as error:
                return self._refuse(request, error)
            return await handler(request)

        return check

    def check(self, request: web.Request) -> None:
        """Check a request by its headers.

        Raises:
            ForeignPageError: a page of another site sends the request.
        """
        hosts = find_hosts(request)
        changes = request.method not in READING and request.path not in STRICTER
        if changes and is_foreign(request.headers, hosts):
            raise ForeignPageError(
                "a page of another site must not send this; if it is the receiver's own page "
                "behind a proxy, the proxy must pass on the header Host"
            )
        if self._checks_names and is_for_people(request) and not self._are_ours(hosts):
            named = ", ".join(sorted(hosts))[:MOST_SHOWN] or "no host"
            raise ForeignPageError(
                f"{named!r} is not a known name of this receiver: add it to "
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
    """Return all hosts in a request, with their ports; there should be one."""
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
    """Return a host without a default port, as browsers write it."""
    return DEFAULT_PORT.sub("", host.strip().lower())


def is_foreign(headers: CIMultiDictProxy[str], hosts: set[str]) -> bool:
    """Return whether the headers of a browser name a page of another site."""
    sites = headers.getall("Sec-Fetch-Site", [])
    if any(site not in OWN_SITES for site in sites):
        return True
    if "same-origin" in sites:
        # A proxy may have changed the host; the browser compared the original ones.
        return False
    origins = {without_default_port(host_of(text)) for text in headers.getall("Origin", [])}
    return bool(origins) and not (origins == hosts and all(hosts))


def is_for_people(request: web.Request) -> bool:
    """Return whether a request is for a page or comes from a browser, other than a health check."""
    if request.path.startswith("/-/"):
        return False
    for_programs = request.path.startswith("/api/") or request.path == paths.METRICS
    return not for_programs or is_from_browser(request.headers)


def is_from_browser(headers: CIMultiDictProxy[str]) -> bool:
    """Return whether a browser sends a request; pages can change these headers, not remove them."""
    # Some HTTP libraries send `*`.
    languages = headers.get("Accept-Language", "*").strip()
    return (
        "Origin" in headers
        or "Sec-Fetch-Site" in headers
        or "mozilla" in headers.get("User-Agent", "").lower()
        or languages != "*"
    )


def is_address(name: str) -> bool:
    """Return whether a host is an IP address, which cannot be made to resolve to another one."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
