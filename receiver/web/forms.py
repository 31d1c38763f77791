"""Accepts forms, which change data.

Only authenticated users may submit forms; without authentication, nobody may. A browser sends
credentials by itself, also with forms of other sites, so each form must prove that it comes from
this page: by its origin in the headers, and by a token that is also in a cookie, which other sites
cannot read.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import ForbiddenError, ReceiverError, TooLargeError
from receiver.http.arriving import Arriving
from receiver.http.body import BodyLimits, read_body
from receiver.storage.connection.database import Connection
from receiver.storage.reading.tables import connect
from receiver.web.answers import View
from receiver.web.parameters import MAX_TEXT, BadParameterError, PageError, Values

COOKIE: Final = "receiver_form"
SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""A secret that this page has made; a cookie can hold anything, even bytes that are not UTF-8."""
LARGEST: Final = 16 * 1024
"""Maximum size of a form in bytes."""
LARGEST_TOGETHER: Final = 64 * LARGEST
"""Maximum size in bytes of all forms that are arriving."""
TIMEOUT: Final = "5s"


async def render_with_forms(view: View, template: str, **values: object) -> web.Response:
    """Return a response with a rendered page with forms, and set the cookie with their secret.

    Besides the values, the template gets `token`, which is None for users who may not change
    anything, and `most`, the maximum number of characters of a text.
    """
    if view.identity is None or view.only_reads:
        return await view.render(template, HTTPStatus.OK, token=None, most=MAX_TEXT, **values)
    secret = find_secret(view.request) or secrets.token_urlsafe(32)
    response = await view.render(
        template, HTTPStatus.OK, token=mask(secret), most=MAX_TEXT, **values
    )
    response.set_cookie(
        COOKIE, secret, httponly=True, samesite="Strict", secure=view.request.secure
    )
    return response


def find_secret(request: web.Request) -> str:
    """Return the secret in the cookie; "" if there is none."""
    found = request.cookies.get(COOKIE, "")
    return found if SECRET.fullmatch(found) else ""


def mask(secret: str) -> str:
    """Return the token of a form: the secret, masked differently each time.

    So the size of a compressed page reveals nothing about the secret (BREACH).
    """
    data = secret.encode()
    pad = secrets.token_bytes(len(data))
    return urlsafe_b64encode(pad + exclusive_or(pad, data)).decode()


def unmask(text: str) -> bytes:
    """Return the secret in a form's token; a malformed token gives other bytes, or none."""
    try:
        data = urlsafe_b64decode(text.encode())
    except ValueError:
        return b""
    half = len(data) // 2
    return exclusive_or(data[:half], data[half:])


def exclusive_or(one: bytes, other: bytes) -> bytes:
    """Combine two byte strings of the same length."""
    return bytes(first ^ second for first, second in zip(one, other, strict=False))


def is_proven(form: Values, request: web.Request) -> bool:
    """Return whether a form's token is for the secret in the cookie."""
    secret = find_secret(request)
    proof = unmask(form.get("token", ""))
    return bool(secret) and hmac.compare_digest(proof, secret.encode())


class RejectedFormError(PageError, ForbiddenError):
    """The form comes from another page, or from somebody who may not change anything."""


class LargeFormError(PageError, TooLargeError):
    """The form is too large."""


class Forms:
    """Reads forms, and opens connections to apply them.

    Args:
        settings: The receiver's settings, with the database URL.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = BodyLimits(LARGEST, settings.read_timeout, settings.min_body_rate)
        self._arriving = Arriving(LARGEST_TOGETHER)
        self._one_at_a_time = asyncio.Lock()

    async def read(self, view: View) -> Values:
        """Read a form that comes from this page.

        Raises:
            RejectedFormError: it comes from another page, or from a user who may not submit it.
            LargeFormError: it is too large.
            BadParameterError: it is malformed.
        """
        if view.identity is None:
            raise RejectedFormError("read_only", flag="")
        if not from_here(view.request.headers, view.request.host):
            raise RejectedFormError("not_from_here")
        form = await self._parse(view.request)
        if not is_proven(form, view.request):
            raise RejectedFormError("not_from_here")
        return form

    async def _parse(self, request: web.Request) -> Values:
        try:
            body = await read_body(request, self._limits, self._arriving)
            return dict(
                parse_qsl(
                    body.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict"
                )
            )
        except TooLargeError:
            raise LargeFormError("bad_form") from None
        except (ReceiverError, ValueError):
            raise BadParameterError("bad_form") from None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Open a read-write connection; one at a time."""
        async with (
            self._one_at_a_time,
            connect(self._settings, statement_timeout=TIMEOUT) as connection,
        ):
            yield connection


def go_to(address: str) -> web.Response:
    """Redirect to another page, so that reloading does not send the form again."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": address})


def from_here(headers: Mapping[str, str], host: str) -> bool:
    """Return whether a form comes from this page, by the browser's headers.

    `Sec-Fetch-Site` is sent over secure connections, `Origin` over others; its scheme differs from
    the receiver's where a proxy terminates TLS.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(headers.get("Origin", "")).netloc
    except ValueError:
        return False
    return bool(origin) and origin == host
