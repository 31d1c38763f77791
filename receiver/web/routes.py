"""The addresses of the pages."""

from __future__ import annotations

from aiohttp import web

from receiver.config.settings import Settings
from receiver.web.answers import answering
from receiver.web.editing import Editing
from receiver.web.pages import Pages
from receiver.web.statics import send_static


def routes(settings: Settings) -> list[web.RouteDef]:
    """Return the routes of all pages; connections are opened with the first request."""
    pages, editing = Pages(settings), Editing(settings)
    return [
        web.get("/", answering(pages.overview)),
        web.get("/board", answering(pages.board)),
        web.get("/logs", answering(pages.logs)),
        web.get("/rejected", answering(pages.rejected)),
        web.get("/codes", answering(pages.codes)),
        web.post("/codes", answering(editing.change)),
        web.get("/static/{name}", send_static),
    ]
