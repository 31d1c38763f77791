"""Lets requests in that bring valid credentials, before anything else is made of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Middleware

from receiver.errors import ReceiverError, UnauthorizedError
from receiver.metrics import Metrics
from receiver.request_id import request_id
from receiver.security.credentials import Credentials, read_credentials
from receiver.security.files import Reloaded
from receiver.security.passwords import PasswordChecker
from receiver.settings import Settings
from receiver.write import WRITE_PATH, refusal

OPEN: Final = frozenset({"/-/healthy", "/-/ready"})
"""What everybody may ask: load balancers and container engines have no credentials."""

IDENTITY: Final = web.RequestKey("identity", str)
"""Of a request that was let in: the user's name, or `token`, or the name in the certificate."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Refuses every request without valid credentials, those for `OPEN` aside.

    Args:
        settings: Which credentials there are; all kinds that they name must be brought at once.
        metrics: Where to count the write requests that are refused.

    Raises:
        SettingsError: the credentials cannot be read.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        files = [file for file in (settings.credentials_file,) if file is not None]
        self._credentials = Reloaded(files, partial(read_credentials, settings))
        self._passwords = PasswordChecker()
        self._retry_after = settings.retry_after
        self._wants_certificate = settings.tls_client_ca_file is not None

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the credentials up to date while the application runs."""
        async with self._credentials.kept_up():
            yield
        self._passwords.close()

    @property
    def middleware(self) -> Middleware:
        """What stands before every handler."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if is_open(request):
                return await handler(request)
            try:
                identity = await self.identify(request)
                if identity is None:
                    raise UnauthorizedError
            except ReceiverError as error:
                return self._refuse(request, error)
            request[IDENTITY] = identity
            return await handler(request)

        return guard

    async def identify(self, request: web.Request) -> str | None:
        """Who asks; None if the credentials do not do.

        Raises:
            OverloadedError: too many passwords are being checked.
        """
        certified = find_subject(request) if self._wants_certificate else ""
        credentials = self._credentials.value
        if certified is None or not any(credentials):
            return certified
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        match scheme.lower():
            case "bearer":
                return "token" if is_token(given.strip(), credentials) else None
            case "basic":
                return await self._find_user(given.strip(), credentials)
        return None

    async def _find_user(self, given: str, credentials: Credentials) -> str | None:
        user, password = split_basic(given)
        if not credentials.users:
            return None
        name = user.decode(errors="replace")
        # A name that nobody has takes the time of one that somebody has.
        hashed = credentials.users.get(name, next(iter(credentials.users.values())))
        matches = await self._passwords.matches(user, password, hashed)
        return name if matches and name in credentials.users else None

    def _refuse(self, request: web.Request, error: ReceiverError) -> web.Response:
        """The same answer whatever was wrong; the body is neither asked for nor read."""
        if request.path == WRITE_PATH:
            self._metrics.count_refused(error)
            self._metrics.requests.labels(error.status, "unknown").inc()
        response = refusal(error, self._retry_after, request_id(request))
        if error.status == HTTPStatus.UNAUTHORIZED:
            for scheme in schemes(self._credentials.value):
                response.headers.add("WWW-Authenticate", f'{scheme} realm="receiver"')
        return response


def schemes(credentials: Credentials) -> list[str]:
    """Ways to bring credentials, for `WWW-Authenticate`."""
    found = ["Basic"] * bool(credentials.users) + ["Bearer"] * bool(credentials.tokens)
    return found or ["Certificate"]


def is_open(request: web.Request) -> bool:
    """Whether everybody may have what is asked for."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in OPEN


def is_token(given: str, credentials: Credentials) -> bool:
    """Whether a token is a valid one, in a time that does not depend on which."""
    digest = hashlib.sha256(given.encode(errors="surrogateescape")).digest()
    return sum(hmac.compare_digest(digest, known) for known in credentials.tokens) > 0


def split_basic(given: str) -> tuple[bytes, bytes]:
    """Name and password of the scheme Basic (RFC 7617); empty if there are none."""
    try:
        user, _, password = base64.b64decode(given, validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return user, password


def find_subject(request: web.Request) -> str | None:
    """Whose certificate it is that the client showed; None if it showed none.

    One that no authority of ours has signed does not get so far.
    """
    certificate = request.get_extra_info("peercert")
    if not certificate:
        return None
    names: dict[str, str] = {
        key: value for part in certificate.get("subject", ()) for key, value in part
    }
    return names.get("commonName", "certificate")
