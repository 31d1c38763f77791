"""Code that all pages share: the reader's language, links, headers and error pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, urlencode

from aiohttp import web
from aiohttp.typedefs import Handler as WebHandler

from receiver.errors import BadRequestError, ReceiverError, RefusedByDatabaseError
from receiver.http.answers import retry_header
from receiver.printable import printable
from receiver.security.identity import IDENTITY, ONLY_READS
from receiver.storage.reading.reports import SlowReportError
from receiver.web import display, zones
from receiver.web.compressing import IN_THREAD, compress
from receiver.web.descriptions import describe, is_ours
from receiver.web.headers import HEADERS
from receiver.web.languages import Language, preferred
from receiver.web.parameters import BadParameterError, PageError, read_choice
from receiver.web.statics import version
from receiver.web.texts import say

if TYPE_CHECKING:
    from jinja2 import Environment

logger = logging.getLogger(__name__)

MESSAGES: Final = {
    HTTPStatus.BAD_REQUEST: "bad_form",
    HTTPStatus.SERVICE_UNAVAILABLE: "busy",
}
"""Text for an error that is not a `PageError`, by its status."""
FIELDS: Final = {
    "time_zone": "time_zone",
    "micro_stop": "micro_limit",
    "name": "name",
    "starts": "from",
    "ends": "to",
    "day": "day",
    "since": "from",
    "until": "to",
    "reason": "reason",
    "code": "code",
    "description": "description",
    "cause": "cause",
    "comment": "comment",
}
"""Text that labels a field of a form, by the field's name."""
RETRY_AFTER: Final = timedelta(seconds=5)

THEMES: Final = ("light", "dark")
AT_ONCE: Final = 200
"""Parts of a page that are rendered before other tasks run: about a millisecond."""


@cache
def templates() -> Environment:
    """Load the page's templates."""
    # Takes 2 MiB, and most receivers never show a page.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    made = Environment(
        loader=PackageLoader("receiver.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["label_text"] = display.label_text
    made.globals["version"] = version()
    made.tests["ours"] = is_ours
    return made


class View:
    """A request for a page, and its response.

    Args:
        request: The request.
    """

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.query: dict[str, str] = {name: request.query[name] for name in request.query}
        self.identity: str | None = request.get(IDENTITY)
        """The authenticated user; None without authentication."""
        self.only_reads: bool = request.get(ONLY_READS, False)
        """Whether this user may only read."""
        chosen = self.query.get("lang", "")
        self._chosen = Language(chosen) if chosen in set(Language) else None
        self.language = self._chosen or preferred(request.headers.get("Accept-Language", ""))
        cookie = request.cookies.get(zones.COOKIE, "")
        chosen = self.query.get("zone", "")
        self.zone = zones.read_zone(chosen) or zones.read_zone(cookie) or zones.DEFAULT
        """The reader's time zone: that of a form, else that of the browser."""
        self.up = "../" * (request.path.count("/") - 1)
        """Relative path to the overview: a proxy may serve the pages below any path."""
        self.now = datetime.now(UTC)
        theme = self.query.get("theme", "")
        self.theme = theme if theme in THEMES else ""
        """The colour theme in the query; "": the one that the system prefers."""

    def check(self) -> None:
        """Check the parameters that all pages have: `lang`, `theme` and `zone`.

        Raises:
            BadParameterError: the language, the theme or the zone is unknown.
        """
        read_choice(self.query, "lang", dict.fromkeys(Language), self.language)
        read_choice(self.query, "theme", dict.fromkeys(("", *THEMES)), "")
        zone = self.query.get("zone")
        if zone and zones.read_zone(zone) is None:
            raise BadParameterError("bad_zone", name="zone")

    def link(self, path: str = "", /, **parameters: object) -> str:
        """Return the address of a page, relative to this one, in the chosen language.

        Parameters may have any name; characters that UTF-8 cannot encode are left out.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        if self._chosen:
            given.setdefault("lang", self._chosen)
        query = urlencode(given, errors="ignore")
        address = f"{self.up}{path}" or "./"
        return f"{address}?{query}" if query else address

    def same(self, path: str | None = None, /, **changes: object) -> str:
        """Return the address of this page with changed parameters; None removes one.

        Args:
            path: Another page, which gets the same parameters.
            changes: The parameters that differ.
        """
        here = quote(self.request.path[1:], errors="replace")
        return self.link(here if path is None else path, **{**self.query, **changes})

    async def render(
        self, template: str, status: HTTPStatus = HTTPStatus.OK, **values: object
    ) -> web.Response:
        """Return a response with a rendered template."""
        page = (
            templates()
            .get_template(template)
            .generate(
                view=self,
                t=self.say,
                age=partial(display.age, language=self.language),
                duration=partial(display.duration, language=self.language),
                moment=partial(display.moment, zone=self.zone),
                milliseconds=partial(display.milliseconds, zone=self.zone),
                count=partial(display.count, language=self.language),
                describe=partial(describe, language=self.language),
                **values,
            )
        )
        text = "".join([part async for part in in_parts(page)])
        headers = {
            **HEADERS,
            "Cache-Control": "no-store",
            "Content-Language": self.language,
            "Vary": "Accept-Language, Cookie, Sec-Fetch-Site",
        }
        response = web.Response(
            status=status,
            body=text.encode(errors="replace"),
            content_type="text/html",
            charset="utf-8",
            headers=headers,
            zlib_executor_size=IN_THREAD,
        )
        compress(response, self.request)
        return response

    async def explain(self, error: ReceiverError) -> web.Response:
        """Return a page about an error, with the status of the error's class."""
        title = f"fault_{error.status.value}"
        if isinstance(error, PageError):
            message, detail = self.say(error.key, **self._as_labelled(error.values)), ""
        elif isinstance(error, SlowReportError):
            title, message, detail = "fault_slow", self.say("slow_report"), ""
        else:
            message, detail = self.say(MESSAGES.get(error.status, "unknown_fault")), str(error)
        response = await self.render(
            "fault.html",
            error.status,
            title=title,
            message=message,
            detail=detail,
        )
        response.headers.update(retry_header(error, RETRY_AFTER))
        return response

    def _as_labelled(self, values: Mapping[str, object]) -> Mapping[str, object]:
        """Call a field of a form as its label does; a parameter of an address keeps its name."""
        label = FIELDS.get(str(values.get("name"))) if self.request.method == "POST" else None
        return {**values, "name": f"“{self.say(label)}”"} if label else values

    def length(self, seconds: float, *, brief: bool = False) -> str:
        """Return a length of time in the reader's language, as `duration` does."""
        return display.duration(seconds, self.language, brief=brief)

    def hour(self, seconds: float) -> str:
        """Return the time of day in the reader's zone, for seconds since the Unix epoch."""
        return self.day_and_time(seconds)[11:16]

    def day_and_time(self, seconds: float) -> str:
        """Return date and time in the reader's zone, for seconds since the Unix epoch.

        "" if `datetime` cannot hold it.
        """
        try:
            return datetime.fromtimestamp(seconds, self.zone).isoformat(" ", "seconds")
        except (OverflowError, ValueError, OSError):
            return ""

    def say(self, key: str, **values: object) -> str:
        """Return a text in the reader's language."""
        return say(self.language, key, **values)


async def in_parts(parts: Iterator[str]) -> AsyncIterator[str]:
    """Yield a page in parts, and let write requests run in between."""
    for number, part in enumerate(parts):
        yield part
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


Handler: TypeAlias = Callable[[View], Awaitable[web.StreamResponse]]


@web.middleware
async def answer_unknown(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Answer a browser's request for an unknown page with an error page."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        if "text/html" not in request.headers.get("Accept", ""):
            raise
        view = View(request)
        return await view.render(
            "fault.html",
            HTTPStatus.NOT_FOUND,
            title="fault_404",
            message=view.say("no_page", path=printable(request.path)[:200]),
            detail="",
        )


def answering(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for aiohttp, which turns every exception into an error page."""

    async def answer(request: web.Request) -> web.StreamResponse:
        view = View(request)
        try:
            view.check()
            return await handler(view)
        except PageError as error:
            return await view.explain(error)
        except RefusedByDatabaseError as error:
            # For a form that the database refuses, unlike a sample, the client is to blame.
            return await view.explain(BadRequestError(str(error)))
        except ReceiverError as error:
            fault = {"fault": f"page {type(error).__name__}"}
            logger.warning("the page %s cannot be shown: %s", request.path, error, extra=fault)
            return await view.explain(error)
        except Exception as error:
            fault = {"fault": f"page {type(error).__name__}"}
            logger.exception("the page %s failed", request.path, extra=fault)
            return await view.explain(ReceiverError())

    return answer
