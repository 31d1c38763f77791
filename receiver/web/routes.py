"""The routes of the pages."""

from __future__ import annotations

from aiohttp import web

from receiver.config.settings import Settings
from receiver.storage.reading.connection import Viewer
from receiver.web.answers import answering
from receiver.web.calendar_pages import CalendarPages
from receiver.web.editing import Editing
from receiver.web.forms import Forms
from receiver.web.pages import Pages
from receiver.web.statics import send_static


def routes(settings: Settings) -> list[web.RouteDef]:
    """Return the routes of all pages; connections are opened with the first request."""
    viewer, forms = Viewer(settings), Forms(settings)
    pages, editing = Pages(settings, viewer, forms), Editing(settings, forms)
    calendar = CalendarPages(viewer, forms, settings.source_name or "")
    return [
        web.get("/", answering(pages.overview)),
        web.get("/board", answering(pages.board)),
        web.get("/source", answering(pages.source)),
        web.post("/source", answering(pages.comment)),
        web.get("/reports", answering(pages.reports)),
        web.get("/reports.csv", answering(pages.report_csv)),
        web.get("/reports.json", answering(pages.report_json)),
        web.get("/calendar", answering(calendar.show)),
        web.post("/calendar", answering(calendar.change)),
        web.get("/logs", answering(pages.logs)),
        web.get("/rejected", answering(pages.rejected)),
        web.get("/codes", answering(pages.codes)),
        web.post("/codes", answering(editing.change)),
        web.get("/static/{name}", send_static),
    ]
