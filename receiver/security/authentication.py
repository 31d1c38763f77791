"""Authenticates requests before they reach a handler."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware

from receiver.config.settings import Settings
from receiver.errors import OutdatedConnectionError, ReceiverError, UnauthorizedError
from receiver.http import paths
from receiver.security.credentials import Credentials, May, read_credentials
from receiver.security.files import Reloaded
from receiver.security.identity import IDENTITY, ONLY_READS
from receiver.security.passwords import Attempt, PasswordChecker
from receiver.security.permissions import require
from receiver.security.refuser import Refuser
from receiver.security.tls import ServerTLS
from receiver.telemetry.metrics import Metrics

BROWSERS: Final = (
    "A browser cannot send a token. To let it in, add a user, whose password it will ask for: "
    "`receiver credential user NAME --append FILE`, with RECEIVER_CREDENTIALS_FILE=FILE."
)
"""Hint for people who open the page of a receiver that has only tokens."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Client(NamedTuple):
    """The authenticated sender of a request."""

    name: str
    may: May | None = None
    """The only thing that the client may do; None: everything."""


class Authentication:
    """Refuses every request without valid credentials, except for health checks.

    Args:
        settings: The credentials; a client must present every kind that is set.
        metrics: Counts the write requests that are refused.
        tls: The TLS state of the server, if it serves HTTPS.

    Raises:
        SettingsError: the credentials cannot be read.
    """

    def __init__(self, settings: Settings, metrics: Metrics, tls: ServerTLS | None = None) -> None:
        self._refuse = Refuser(settings, metrics)
        self._tls = tls
        files = [file for file in (settings.credentials_file,) if file is not None]
        self._credentials = Reloaded(files, partial(read_credentials, settings))
        self._passwords = PasswordChecker()
        self._wants_certificate = settings.tls_client_ca_file is not None

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the credentials up to date while the application runs."""
        async with self._credentials.kept_up():
            yield
        self._passwords.close()

    @property
    def middleware(self) -> Middleware:
        """The middleware that runs before every handler."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if is_open(request):
                return await handler(request)
            try:
                client = await self.identify(request)
                if client is None:
                    raise UnauthorizedError
                require(request, client.may)
            except ReceiverError as error:
                return self._answer(request, error)
            request[IDENTITY] = client.name
            request[ONLY_READS] = client.may == "read"
            return await handler(request)

        return guard

    async def identify(self, request: web.Request) -> Client | None:
        """Return the client that sends a request; None if credentials are missing or wrong.

        Raises:
            OutdatedConnectionError: the client's certificate has expired, or its authority is no
                longer trusted.
            OverloadedError: too many passwords are being checked.
        """
        certified = self._find_subject(request) if self._wants_certificate else ""
        credentials = self._credentials.value
        if certified is None:
            return None
        if not any(credentials):
            return Client(certified)
        # If there are several headers, a proxy may have checked another one than this.
        if len(brought := request.headers.getall("Authorization", [])) != 1:
            return None
        scheme, _, given = brought[0].partition(" ")
        match scheme.lower():
            case "bearer":
                return find_token(given.strip(), credentials)
            case "basic":
                return await self._find_user(request, given.strip(), credentials)
        return None

    def _find_subject(self, request: web.Request) -> str | None:
        """Return the common name in the client's certificate; None if there is no certificate.

        A certificate that no trusted authority has signed already fails the handshake.
        """
        certificate = request.get_extra_info("peercert")
        connection = request.get_extra_info("ssl_object")
        if not certificate or self._tls is None or connection is None:
            return None
        if not self._tls.trusts_still(connection) or has_expired(certificate):
            raise OutdatedConnectionError
        names: dict[str, str] = {
            key: value for part in certificate.get("subject", ()) for key, value in part
        }
        return names.get("commonName", "certificate")

    async def _find_user(
        self, request: web.Request, given: str, credentials: Credentials
    ) -> Client | None:
        user, password = split_basic(given)
        if not credentials.users:
            return None
        name = user.decode(errors="replace")
        # Checking an unknown name takes as long as checking a known one.
        hashed = credentials.users.get(name, next(iter(credentials.users.values())))
        attempt = Attempt(
            user=user,
            password=password,
            hashed=hashed,
            genuine=name in credentials.users,
            address=network(request.remote or ""),
            is_wanted=lambda: request.transport is not None,
        )
        if not await self._passwords.matches(attempt):
            return None
        return Client(name, credentials.may.get(name))

    def _answer(self, request: web.Request, error: ReceiverError) -> web.Response:
        """Refuse a request, without showing what was wrong and without reading its body."""
        hint = ""
        if isinstance(error, UnauthorizedError) and not self._credentials.value.users:
            hint = BROWSERS if self._credentials.value.tokens else ""
        response = self._refuse(request, error, hint)
        if isinstance(error, UnauthorizedError):
            for scheme in schemes(self._credentials.value):
                response.headers.add("WWW-Authenticate", f'{scheme} realm="receiver"')
        if isinstance(error, OutdatedConnectionError):
            response.force_close()
        return response


def has_expired(certificate: dict[str, Any]) -> bool:
    """Return whether a client's certificate has expired since the connection was made."""
    return ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time()


def network(address: str) -> str:
    """Return the /64 network of an IPv6 address, all of which one machine has; else the address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return address


def schemes(credentials: Credentials) -> list[str]:
    """Return the accepted schemes, for `WWW-Authenticate`."""
    found = ["Basic"] * bool(credentials.users) + ["Bearer"] * bool(credentials.tokens)
    return found or ["Certificate"]


def is_open(request: web.Request) -> bool:
    """Return whether a request needs no credentials."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in paths.UNAUTHENTICATED


def find_token(given: str, credentials: Credentials) -> Client | None:
    """Return the client of a token, None if invalid, in a time independent of the token."""
    digest = hashlib.sha256(given.encode(errors="surrogateescape")).digest()
    if not sum(hmac.compare_digest(digest, known) for known in credentials.tokens):
        return None
    return Client("token", credentials.may.get(digest.hex()))


def split_basic(given: str) -> tuple[bytes, bytes]:
    """Return name and password of the scheme Basic (RFC 7617); empty if malformed."""
    try:
        user, _, password = base64.b64decode(given, validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return user, password
