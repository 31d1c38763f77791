"""The page of a receiver with declared tables other than app_logs."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from receiver.web.forms import COOKIE, unmask
from tests.conftest import MakeSettings
from tests.logs import add_sources
from tests.pages import showing, words
from tests.receivers import Running
from tests.tables import WITHOUT_LOGS, camera, press, robot, write_tables
from tests.waiting import until

NUMBERS = "tables: {presses: {columns: {pressure: {metric: press_pressure_bar, type: double}}}}"


@pytest.fixture
async def receiver(
    request: pytest.FixtureRequest, database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[Running]:
    """Run a receiver that has stored rows of a minute ago; the parameter is its tables file."""
    tables = write_tables(tmp_path, *([request.param] if hasattr(request, "param") else []))
    settings = make_settings(database_url=database_url, tables_file=tables)
    async with showing(settings, known=True) as running:
        await until(running.ready)
        now = int(time.time() * 1000) - 2000
        await running.send(*camera(now, 2), *press(now, 1.5, 1, 12), *robot(now, 3, note=1))
        await running.send(*press(now + 1, 2.5, 0), *robot(now + 1, 0.5), *robot(now + 2, 3))
        yield running


async def look(receiver: Running, path: str, status: int = 200) -> str:
    async with receiver.session.get(receiver.url(path)) as response:
        text = await response.text()
        assert response.status == status, text
        return text


def headings(page: str) -> list[str]:
    return [
        re.sub(r"<[^>]*>", "", heading)
        for heading in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page)
    ]


def chosen(page: str) -> list[str]:
    """Return the tables in the selection."""
    (choice,) = re.findall(r'<nav class="paging" aria-label="Tables">(.*?)</nav>', page, re.DOTALL)
    return re.findall(r"<bdi>(.*?)</bdi>", choice)


async def test_logs_of_another_table_have_its_columns(receiver: Running) -> None:
    page = await look(receiver, "/logs?table=press_readings")
    columns = ["line", "press", "pressure", "running", "strokes"]
    assert headings(page) == ["Time", "Source", *columns]
    assert page.count("<tr><td>") == 2
    text = words(page)
    assert "A 7 2.5 false" in text
    assert "A 7 1.5 true 12" in text
    assert chosen(page) == ["app_logs", "press_readings", "robots"]
    # The filters are those of the table's own columns.
    assert 'name="code"' not in page
    assert 'name="table" value="press_readings"' in page


async def test_logs_of_a_table_with_codes_say_what_they_mean(receiver: Running) -> None:
    page = await look(receiver, "/logs?table=robots&code=3")
    assert headings(page) == ["Time", "state", "Source", "설명", "select"]
    assert page.count("<tr><td>") == 2
    assert "3 UNREGISTERED_3" in words(page)
    assert "1 DB_ERROR" in words(page)
    assert await look(receiver, "/logs?table=robots&code=4") != page
    source = re.findall(r'<a href="source\?id=(\d+)&amp;table=robots">', page)[0]
    page = await look(receiver, f"/logs?source={source}&table=robots")
    assert page.count("<tr><td>") == 2
    assert "UNREGISTERED_3 (3)" in await look(receiver, f"/source?id={source}&table=robots")


async def test_app_logs_are_shown_unless_another_table_is_asked_for(receiver: Running) -> None:
    page = await look(receiver, "/logs")
    assert headings(page) == ["Time", "State", "Source", "OCR value"]
    assert words(page) == words(await look(receiver, "/logs?table=app_logs"))
    overview = await look(receiver, "/")
    assert "NETWORK_ERROR" in overview
    assert "Data is arriving." in overview
    # The rate includes all tables.
    assert "0.1 rows/s" in words(overview)
    await look(receiver, "/logs?table=app_log", 400)
    await look(receiver, "/?table=app_log", 400)


async def test_the_overview_of_a_table_draws_its_states(receiver: Running) -> None:
    page = await look(receiver, "/?table=robots&range=1h")
    assert 'data-of="UNREGISTERED_3 (3)"' in page
    assert "No row yet" in words(page)
    numbers = await look(receiver, "/?table=press_readings")
    assert "A 7 2.5 false" in words(numbers)
    assert 'class="strip"' not in numbers
    assert "pressure" in headings(numbers)


async def test_sources_of_other_tables_are_not_missed_here(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    """The overview and the board show sources with rows in the table, and those without any row."""
    await add_sources(connection, 1)
    page = words(await look(receiver, "/?range=1h"))
    assert "· 2 sources" in page
    assert page.count("No row yet") == 2  # in the filter, and at the new source
    assert "· 2 sources" in words(await look(receiver, "/?table=press_readings"))


async def test_a_source_whose_samples_were_all_rejected_is_shown_at_their_table(
    receiver: Running,
) -> None:
    now = int(time.time() * 1000)
    at_fault = [({**labels, "instance": "r-2"}, at, value) for labels, at, value in robot(now, 0.5)]
    await receiver.send(*at_fault)
    text = words(await look(receiver, "/?table=robots"))
    assert "· 2 sources" in text
    assert "r-2" in text
    for table in ("app_logs", "press_readings"):
        for path in ("/", "/board"):
            assert "r-2" not in await look(receiver, f"{path}?table={table}")
        assert "· 1 source" in words(await look(receiver, f"/?table={table}"))


async def test_a_source_whose_samples_wait_is_shown_at_their_table(receiver: Running) -> None:
    now = int(time.time() * 1000)
    waiting = [({**labels, "instance": "cam-2"}, at, value) for labels, at, value in camera(now, 0)]
    await receiver.send(*waiting[:1])
    assert "cam-2" in await look(receiver, "/")
    assert "cam-2" not in await look(receiver, "/?table=robots")


@pytest.mark.parametrize("receiver", [WITHOUT_LOGS], indirect=True)
async def test_without_app_logs_the_first_table_with_states_is_shown(receiver: Running) -> None:
    for path in ("/", "/logs", "/codes", "/rejected"):
        await look(receiver, path)
    assert 'data-of="UNREGISTERED_3 (3)"' in await look(receiver, "/")
    assert chosen(await look(receiver, "/")) == ["press_readings", "robots"]
    assert "state" in headings(await look(receiver, "/logs"))


@pytest.mark.parametrize("receiver", [NUMBERS], indirect=True)
async def test_without_any_states_the_newest_rows_are_shown(receiver: Running) -> None:
    page = await look(receiver, "/")
    assert headings(page) == ["Source", "State", "For", "Newest sample", "pressure"]
    assert 'class="strip"' not in page
    assert 'aria-label="Tables"' not in page
    for path in ("/board", "/calendar", "/logs", "/codes", "/rejected"):
        await look(receiver, path)
    # A table without a code column has no report.
    assert "no column of codes" in await look(receiver, "/reports", 400)


async def test_rejected_samples_name_table_and_column_and_are_filtered(receiver: Running) -> None:
    page = await look(receiver, "/rejected")
    assert headings(page)[2:5] == ["Table", "Column", "Metric"]
    assert "robots state robot_state 0.5" in words(page)
    assert (await look(receiver, "/rejected?table=robots")).count("<tr><td>") == 1
    assert "No sample was rejected." in await look(receiver, "/rejected?table=app_logs")
    # A table that is no longer declared can have rejected samples, too.
    assert "No sample was rejected." in await look(receiver, "/rejected?table=formerly")
    await look(receiver, "/rejected?table=%00", 400)


async def test_without_credentials_the_page_names_the_command_of_a_table_of_codes(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(database_url=database_url, tables_file=write_tables(tmp_path))
    async with showing(settings) as receiver:
        await until(receiver.ready)
        for path, command in (
            ("/codes", "receiver codes."),
            ("/codes?table=robot_states", "receiver codes --table robot_states."),
        ):
            assert f"use the command {command}" in words(await look(receiver, path))


async def test_codes_of_another_table_are_shown_and_changed(receiver: Running) -> None:
    page = await look(receiver, "/codes?table=robot_states")
    assert "UNREGISTERED_3" in page
    assert "logs?code=3&amp;table=robots" in page
    assert chosen(page) == ["error_codes", "robot_states"]
    token = re.findall(r'name="token" value="([^"]+)"', page)[0]
    form = {
        "token": token,
        "action": "rename",
        "table": "robot_states",
        "code": "3",
        "name": "IDLE",
    }
    async with receiver.session.post(
        receiver.url("/codes"),
        data=form,
        headers={"Sec-Fetch-Site": "same-origin", "Cookie": f"{COOKIE}={unmask(token).decode()}"},
        allow_redirects=False,
    ) as response:
        assert response.status == 303
        assert response.headers["Location"] == "codes?table=robot_states&saved=3"
    assert "IDLE" in await look(receiver, "/codes?table=robot_states")
    assert "IDLE" not in await look(receiver, "/codes")
    await look(receiver, "/codes?table=robots", 400)
