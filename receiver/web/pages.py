"""The read-only pages, one handler each."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from aiohttp import web

from receiver.config.catalogue import all_code_tables
from receiver.config.settings import Settings
from receiver.rows.reasons import Reason
from receiver.rows.tables import Table
from receiver.storage.editing import codes
from receiver.storage.reading import logs, rejected, sources
from receiver.storage.reading.connection import Viewer
from receiver.storage.reading.reports import within
from receiver.storage.reading.selecting import default_states
from receiver.storage.reading.states import class_of, classes_of, read_classes
from receiver.web.answers import View
from receiver.web.floor import FloorReader
from receiver.web.floor_pages import Overview, answer_board, read_page, read_wanted
from receiver.web.forms import Forms, render_with_forms
from receiver.web.looks import looks_of
from receiver.web.names import by_name, name_sources
from receiver.web.parameters import (
    LOG_RANGES,
    RANGES,
    BadParameterError,
    read_choice,
    read_number,
    read_place,
    read_text,
    read_window,
)
from receiver.web.recent import Recent
from receiver.web.report_files import answer_csv, answer_json
from receiver.web.report_pages import Report, ReportReader, answer_report
from receiver.web.source_page import answer_source, change_comment, read_source

ROWS: Final = 50
"""Number of rows of a table on a page."""
REPORT_TIME: Final = 8.0
"""Time limit of a report in seconds; less than that of its connection."""
SUGGESTIONS: Final = 1000
"""Maximum number of sources, and of codes, that a filter offers."""


class Pages:
    """Answers requests for pages.

    Args:
        settings: The receiver's settings, with the tables and the names of sources.
        viewer: Opens connections for reading.
        forms: Reads the forms.
    """

    def __init__(self, settings: Settings, viewer: Viewer, forms: Forms) -> None:
        self._viewer = viewer
        self._forms = forms
        self._floor = FloorReader(settings)
        self._recent = Recent()
        self._template = settings.source_name or ""
        self._catalogue = settings.catalogue
        self._default = default_states(self._catalogue)

    def _names(self, labels: dict[int, dict[str, str]]) -> dict[int, str]:
        return name_sources(labels, self._template)

    def _table(self, view: View) -> Table:
        """Return the table in the query.

        Raises:
            BadParameterError: there is no such table.
        """
        tables = self._catalogue.by_name
        return tables[read_choice(view.query, "table", tables, self._default.name)]

    def _common(self, table: Table) -> dict[str, Any]:
        """Return the values that templates need to show a table and links to the others."""
        return {
            "table": table,
            # The query parameter of links; the default table needs none.
            "in_table": None if table is self._default else table.name,
            "tables": [
                None if one is self._default else one.name for one in self._catalogue.tables
            ],
            "default": self._default.name,
        }

    async def overview(self, view: View) -> web.Response:
        """Answer `GET /`: the state of each source now, and over the last hours."""
        table = self._table(view)
        window = read_window(view.query, RANGES, view.zone)
        # Checked before a connection is opened.
        read_wanted(view)
        read_page(view)
        async with self._viewer.connection() as connection:
            floor = await self._floor.read(connection, table)
            page = Overview(floor, view, window, self._recent)
            return await page.answer(connection, self._common(table))

    async def board(self, view: View) -> web.Response:
        """Answer `GET /board`: the states of all sources, for a screen that many look at."""
        table = self._table(view)
        group = read_text(view.query, "group", needed=False)
        async with self._viewer.connection() as connection:
            floor = await self._floor.read(connection, table)
        return await answer_board(floor, view, group)

    async def source(self, view: View) -> web.Response:
        """Answer `GET /source`: the states of one source over time."""
        table = self._table(view)
        read_source(view)
        window = read_window(view.query, RANGES, view.zone)
        async with self._viewer.connection() as connection:
            floor = await self._floor.read(connection, table)
            common = self._common(table)
            return await answer_source(floor, view, window, connection, common)

    async def comment(self, view: View) -> web.Response:
        """Answer `POST /source`: save or remove the comment on a state of a source."""
        return await change_comment(view, self._forms, self._table(view))

    async def reports(self, view: View) -> web.Response:
        """Answer `GET /reports`: the figures of a period."""
        return await answer_report(await self._report(view), view, self._common(self._coded(view)))

    async def report_csv(self, view: View) -> web.Response:
        """Answer `GET /reports.csv`."""
        return answer_csv(await self._report(view), view)

    async def report_json(self, view: View) -> web.Response:
        """Answer `GET /reports.json`."""
        return answer_json(await self._report(view), view)

    async def _report(self, view: View) -> Report:
        reader = ReportReader(view, self._coded(view), self._template)
        async with self._viewer.connection() as connection, within(REPORT_TIME):
            return await reader.read(connection)

    def _coded(self, view: View) -> Table:
        """Return the table in the query.

        Raises:
            BadParameterError: the table has no codes, so there is no report.
        """
        table = self._table(view)
        if not table.codes:
            raise BadParameterError("no_codes_column", table=table.name)
        return table

    async def logs(self, view: View) -> web.Response:
        """Answer `GET /logs`: the newest rows of a table, by source, code and range.

        Raises:
            BadParameterError: a parameter is malformed, or there is no such source.
        """
        table = self._table(view)
        rows = logs.Logs(table)
        window = read_window(view.query, LOG_RANGES, view.zone)
        place = read_place(view.query, "before")
        length = LOG_RANGES.get(window.name)
        until = window.until or view.now
        since = (until - length).isoformat() if length else "-infinity"
        # By the database's clock, as for all newest rows; "all" includes times in the future.
        now = "infinity" if window.name == "all" else "now"
        wanted = logs.Filter(
            since=window.since.isoformat() if window.since else since,
            until=window.until.isoformat() if window.until else now,
            source=read_number(view.query, "source", lowest=0),
            code=read_number(view.query, "code"),
        )
        async with self._viewer.connection() as connection:
            page = await rows.page(connection, wanted, place, ROWS)
            known = await sources.first_sources(connection, SUGGESTIONS + 1)
            if not (page.logs or await sources.is_known(connection, wanted.source)):
                raise BadParameterError("bad_source", source=wanted.source)
            known_codes = await codes.of_table(connection, table, SUGGESTIONS)
            classes = await read_classes(connection, table)
        names = self._names({**known, **{log.source_id: log.labels for log in page.logs}})
        if wanted.source is not None:
            names.setdefault(wanted.source, f"#{wanted.source}")
        return await view.render(
            "logs.html",
            **self._common(table),
            columns=rows.columns,
            page=page,
            first=place == logs.NEWEST,
            wanted=wanted,
            window=window,
            ranges=window.choices(LOG_RANGES),
            looked_at=logs.LOOKED_AT,
            names=names,
            known_sources=by_name({id_: names[id_] for id_ in list(known)[:SUGGESTIONS]}),
            many_sources=len(known) > SUGGESTIONS,
            known_codes=known_codes,
            look=looks_of((code.code for code in known_codes), classes),
        )

    async def rejected(self, view: View) -> web.Response:
        """Answer `GET /rejected`: the rejected samples, of one table or of all."""
        # A table that is no longer declared may have rejected samples too.
        table = read_text(view.query, "table", needed=False) or None
        before = read_number(view.query, "before", lowest=0, highest=rejected.NEWEST)
        start = rejected.NEWEST if before is None else before
        async with self._viewer.connection() as connection:
            page = await rejected.rejected(connection, start, ROWS, table)
            names = self._names(await sources.first_sources(connection, SUGGESTIONS))
        known = self._catalogue.by_name
        return await view.render(
            "rejected.html",
            names=names,
            page=page,
            first=before is None,
            wanted=table,
            tables=sorted({*known, table or self._default.name}),
            links={name: None if one is self._default else name for name, one in known.items()},
            looked_at=rejected.LOOKED_AT,
            # A newer receiver on the same database may have other reasons.
            reasons=set(Reason),
        )

    async def codes(self, view: View) -> web.Response:
        """Answer `GET /codes`: the codes of a table of codes."""
        known = all_code_tables(self._catalogue)
        name = read_choice(view.query, "table", dict.fromkeys(known), known[0])
        start = read_number(view.query, "from")
        saved = read_number(view.query, "saved")
        namesake = read_number(view.query, "namesake")
        async with self._viewer.connection() as connection:
            first = codes.FIRST if start is None else start
            found = await codes.CodeTable(name).page(connection, first, ROWS + 1)
            everything = await codes.CodeTable(name).page(connection, codes.FIRST, SUGGESTIONS)
            classes = await classes_of(connection, name)
        return await render_with_forms(
            view,
            "codes.html",
            codes=found[:ROWS],
            look=looks_of((code.code for code in everything), classes),
            classes=classes,
            class_of=partial(class_of, classes=classes),
            name=name,
            in_table=None if name == known[0] else name,
            tables=[None, *known[1:]],
            default=known[0],
            logs_of=self._logs_of(name),
            start=start,
            following=found[ROWS].code if len(found) > ROWS else None,
            saved=saved,
            namesake=namesake,
        )

    def _logs_of(self, codes_table: str) -> dict[str, str | None] | None:
        """Return the query of links to rows with codes of a table; None if no table uses them."""
        first = (self._default, *self._catalogue.tables)
        for table in first:
            if table.codes and table.codes[0].codes == codes_table:
                return {"table": None if table is self._default else table.name}
        return None
