"""The page over HTTP, on a real database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import asyncpg
import pytest

from receiver.rows.reasons import Reason
from receiver.rows.tables import Table
from receiver.storage.reading.stretches import Stretch, read_stretches
from receiver.web import floor_pages
from receiver.web.texts import TEXTS
from tests.conftest import MakeSettings
from tests.logs import GIVE_LINES, add_logs, add_sources, logs
from tests.pages import MARKUP, SOURCES, fill, showing, words
from tests.receivers import Running

PAGES = ["/", "/board", "/reports", "/calendar", "/logs", "/rejected", "/codes"]
KOREAN = {"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"}


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with showing(make_settings(database_url=database_url)) as running:
        yield running


@pytest.fixture
async def alone(make_settings: MakeSettings) -> AsyncIterator[Running]:
    """Run a receiver without a database, for tests that need none."""
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with showing(settings) as running:
        yield running


async def look(
    receiver: Running, path: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> str:
    async with receiver.session.get(receiver.url(path), headers=headers) as response:
        text = await response.text()
        assert response.status == status, text
        assert response.content_type == "text/html"
        return text


def link(page: str, text: str) -> str:
    """Return the target of the link with this text."""
    (target,) = re.findall(rf'<a href="([^"]*)"[^>]*>[^<]*{re.escape(text)}', page)
    return str(target).replace("&amp;", "&")


# --- what is shown --------------------------------------------------------------------------------


async def test_an_empty_database_has_pages(receiver: Running) -> None:
    for path in PAGES:
        await look(receiver, path)


async def test_the_overview_counts_the_states_of_all_sources(
    receiver: Running, database_url: str
) -> None:
    await fill(database_url)
    text = words(await look(receiver, "/"))
    assert f"{SOURCES} sources" in text
    # One has never sent anything, one fell silent half an hour ago.
    assert "Failing 0" in text
    assert "Silent 1 last sample 30 min" in text
    assert "No row yet" in text
    assert f"OK {SOURCES - 2}" in text
    assert "cam-1" in text
    assert "Data is arriving." in text


async def test_a_failure_comes_first_with_its_code_and_how_long_it_lasts(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 3)
    start = datetime.now(UTC) - timedelta(minutes=10)
    await add_logs(connection, logs(1, [0] * 120, start=start))
    await add_logs(connection, logs(2, [0] * 60 + [1] * 30 + [2] * 30, start=start))
    page = await look(receiver, "/")
    rows = re.findall(r'<tr class="(\w+)" id="s-(\d)">', page)
    assert rows == [("failure", "2"), ("ok", "1"), ("none", "3")]
    text = words(page)
    assert re.search(r"NETWORK_ERROR 2 네트워크 장애 (4 min 5\d|5 min \d) s", text), text
    assert "longest: " in text
    assert "<title>(1) Overview" in page


async def test_what_is_planned_is_no_failure(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 2)
    start = datetime.now(UTC) - timedelta(minutes=5)
    await connection.execute(
        """
        INSERT INTO error_codes (code, name) VALUES (7, 'CLEANING');
        INSERT INTO code_classes VALUES ('error_codes', 7, 'planned');
        INSERT INTO planned_stops (started_at, ended_at, labels, reason)
        VALUES (now() - INTERVAL '1 min', now() + INTERVAL '1 h', '{"instance": "cam-1"}',
            '정기 점검');
        """
    )
    await add_logs(connection, logs(1, [1] * 60, start=start) + logs(2, [7] * 60, start=start))
    text = words(await look(receiver, "/"))
    assert "Failing 0" in text
    assert "Planned stop 2" in text
    assert "정기 점검 until" in text


async def test_the_overview_tells_when_data_came_last(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    assert "No rows yet." in words(await look(receiver, "/"))
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 0]))
    text = words(await look(receiver, "/"))
    assert "No data is arriving. Newest row" in text
    assert "Silent 1" in text


async def test_all_sources_are_reachable(receiver: Running, connection: asyncpg.Connection) -> None:
    await add_sources(connection, 120)
    path, seen = "/?sort=name", list[str]()
    for _ in range(5):
        page = await look(receiver, path)
        seen += re.findall(r'<tr class="none" id="s-(\d+)">', page)
        if 'rel="next"' in page:
            path = "/" + link(page, "Next").removeprefix("./")
    assert len(seen) == len(set(seen)) == 120


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "cam-2"}, [2]),
        ({"q": "line=B"}, [2]),
        ({"q": "network"}, [2]),
        ({"q": "네트워크"}, [2]),
        ({"q": "nowhere"}, []),
        ({"state": "failure"}, [2]),
        ({"state": "ok"}, [1]),
        ({"code": 2}, [2]),
        ({"sort": "name"}, [1, 2]),
        ({"group": "line"}, [2, 1]),
    ],
)
async def test_sources_are_searched_and_filtered(
    receiver: Running, connection: asyncpg.Connection, query: dict[str, Any], found: list[int]
) -> None:
    await add_sources(connection, 2)
    await connection.execute(GIVE_LINES)
    start = datetime.now(UTC) - timedelta(minutes=1)
    await add_logs(connection, logs(1, [0] * 12, start=start) + logs(2, [2] * 12, start=start))
    page = await look(receiver, f"/?{urlencode(query)}")
    assert [int(id_) for id_ in re.findall(r'id="s-(\d+)"', page)] == found


async def test_strips_show_the_share_of_each_state(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    # A source that flaps all day long.
    await add_logs(connection, logs(1, [0, 2] * 720, step=60))
    page = await look(receiver, "/?range=7d&until=2025-03-05T00:00:00Z")
    paths = re.findall(r'<path class="(\w+)" d="([^"]+)"', page)
    assert {colour for colour, _ in paths} == {"ok", "f2"}
    assert "2025-03-0" not in page.partition('class="sources"')[0].partition("until")[0]
    page = await look(
        receiver, "/?range=custom&since=2025-03-03T09:00:00Z&until=2025-03-03T09:10:00Z"
    )
    (strip,) = re.findall(r'<svg class="strip"[^>]*aria-label="([^"]*)"', page)
    assert strip == "cam-1: Failing 50.0%, OK 50.0%"
    assert "until=2025-03-03T09%3A00%3A00Z" in link(page, "Earlier")


async def test_a_source_has_a_page_of_its_states(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 0, 2, 2, 0], step=60))
    page = await look(receiver, "/source?id=1&range=1h&until=2025-03-03T10:00:00Z")
    states = re.findall(r'<tr id="at-\d+">.*?<bdi>(.*?)</bdi>', page)
    assert states == ["OK (0)", "NETWORK_ERROR (2)", "OK (0)"]
    assert "2 min 0 s" in words(page)
    await look(receiver, "/source?id=77", 404)
    await look(receiver, "/source", 404)


async def test_the_page_of_a_silent_source_says_that_its_code_is_the_last_one(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 2]))
    assert "Silent · last state: NETWORK_ERROR" in words(await look(receiver, "/source?id=1"))
    korean = words(await look(receiver, "/source?id=1&range=90d&lang=ko"))
    assert "무응답 · 마지막 상태: NETWORK_ERROR" in korean
    assert "· 고장 0회 ·" in korean


async def test_the_calendar_says_what_a_credential_would_change_there(receiver: Running) -> None:
    page = words(await look(receiver, "/calendar"))
    assert "Shifts, holidays and planned stops can be changed here once" in page
    assert "Codes can be changed" not in page
    assert "Codes can be changed here once" in words(await look(receiver, "/codes"))


async def test_the_board_shows_what_fails_large(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 4)
    start = datetime.now(UTC) - timedelta(minutes=1)
    await add_logs(connection, logs(1, [0] * 12, start=start) + logs(2, [2] * 12, start=start))
    await add_logs(connection, logs(3, [0] * 12, start=start - timedelta(hours=1)))
    page = await look(receiver, "/board")
    tiles = re.findall(r'<li id="t-(\d)" class="tile (\w+)', page)
    assert tiles == [("2", "failure"), ("3", "silent")]
    assert "NETWORK_ERROR" in page
    assert 'data-theme="dark"' in await look(receiver, "/board?theme=dark")
    await look(receiver, "/board?theme=pink", 400)


async def test_logs_come_page_by_page_and_each_once(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 3)
    for source in (1, 2, 3):
        # All sources have the same times, so that a page ends between rows of equal time.
        await add_logs(connection, logs(source, [0] * 40))
    target, seen = "/logs?range=all", list[str]()
    for _ in range(3):
        page = await look(receiver, target)
        seen += re.findall(r"<tr><td><time datetime=\"(.*?)\".*?\?id=(\d)", page)
        if 'rel="next"' in page:
            target = "/" + link(page, "Older")
    assert len(seen) == len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)
    assert "Older" not in page


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ({"source": 2}, 2),
        ({"code": 2}, 1),
        ({"code": 2, "source": 1}, 1),
        ({"code": 2, "source": 2}, 0),
        ({"code": -5}, 0),
        ({"range": "15m", "until": "2025-03-03T09:15:00"}, 6),
        ({"range": "15m", "until": "2025-03-03T18:00:10+09:00"}, 4),
        ({"range": "15m"}, 0),
        ({"range": "", "until": "", "source": "", "code": ""}, 0),
    ],
)
async def test_logs_are_filtered(
    receiver: Running, connection: asyncpg.Connection, query: dict[str, Any], rows: int
) -> None:
    await add_sources(connection, 2)
    await add_logs(connection, logs(1, [0, 0, 2, 0]) + logs(2, [0, 1]))
    page = await look(receiver, f"/logs?{urlencode({'range': 'all', **query})}")
    assert page.count("<tr><td>") == rows
    if query.get("range") == "15m" and rows == 0:
        assert "range=all" in link(page, "Search all times")


async def test_a_rare_code_is_looked_for_step_by_step(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [2] + [0] * 20_500))
    page = await look(receiver, "/logs?range=all&code=2")
    assert "20,000 rows were searched, back to 2025-03-03 09:41:45.000" in words(page)
    page = await look(receiver, "/" + link(page, "Search further back"))
    assert page.count("<tr><td>") == 1
    assert "were searched" not in page


async def test_rejected_samples_tell_why(receiver: Running, database_url: str) -> None:
    await fill(database_url)
    first = await look(receiver, "/rejected")
    assert first.count("<tr><td>") == 50
    second = await look(receiver, "/" + link(first, "Older"))
    assert second.count("<tr><td>") == 12
    text = words(first) + words(second)
    for shown in ("not a number (NaN) not_a_number", "1e+300", "inf", "4611686018427387904 ms"):
        assert shown in text
    assert "its row was not completed in time" in text


def test_every_reason_has_its_text() -> None:
    assert {f"reason_{reason}" for reason in Reason} == {
        key for key in TEXTS if key.startswith("reason_")
    }


async def test_a_reason_of_a_later_release_is_shown(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await connection.execute(
        "INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, table_name) "
        "VALUES (1, 'app_status', 0, 0, 'too_loud', 'app_logs')"
    )
    assert "too_loud" in words(await look(receiver, "/rejected"))


async def test_codes_come_page_by_page(receiver: Running, connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO error_codes SELECT i, 'E' || i FROM generate_series(-30, -1) AS i;"
        "INSERT INTO error_codes SELECT i, 'E' || i FROM generate_series(1000, 1019) AS i"
    )
    first = await look(receiver, "/codes")
    assert first.count('<th scope="row"') == 50
    second = await look(receiver, "/" + link(first, "Next codes"))
    assert second.count('<th scope="row"') == 4
    assert "E1019" in second


async def test_times_that_no_calendar_has_are_shown(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 3)
    await connection.execute(
        """
        INSERT INTO app_logs (source_id, created_at, app_status, ocr_value) VALUES
            (1, '4700-01-02 00:00Z BC', 0, '294276-12-31 23:59Z'), (2, '290000-01-01Z', 0, now())
        """
    )
    for path in ("/?range=1h", "/logs?range=all"):
        text = await look(receiver, path)
        assert "294276-12-31 23:59:00+00" in text
        assert "4700-01-02 00:00:00+00 BC" in text
    # The newest row of a source is never in the future; the list of all rows includes the future.
    assert "290000-01-01 00:00:00+00" in text


@pytest.mark.parametrize("path", PAGES)
async def test_text_from_outside_is_no_markup(
    receiver: Running, database_url: str, path: str
) -> None:
    await fill(database_url)
    page = await look(receiver, path)
    assert MARKUP not in page
    for query in (
        "q",
        "group",
        "page",
        "before",
        "from",
        "until",
        "lang",
        "range",
        "source",
        "code",
    ):
        quoted = urlencode({query: f'"{MARKUP}'})
        async with receiver.session.get(receiver.url(f"{path}?{quoted}")) as response:
            assert MARKUP not in await response.text()


# --- languages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
async def test_the_browser_chooses_the_language(alone: Running, path: str) -> None:
    korean = await look(alone, path, 503, headers=KOREAN)
    english = await look(alone, path, 503, headers={"Accept-Language": "fr, en;q=0.3"})
    assert '<html lang="ko"' in korean
    assert '<html lang="en"' in english
    assert "에러 코드" in korean


async def test_a_language_that_was_chosen_stays(alone: Running) -> None:
    page = await look(alone, "/?lang=en", 503, headers=KOREAN)
    assert '<html lang="en"' in page
    assert link(page, "Logs") == "logs?lang=en"
    assert link(page, "한국어") == "./?lang=ko"
    assert "lang" not in link(await look(alone, "/", 503, headers=KOREAN), "로그")


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/?range=2h", "range must be one of 1h, 6h, 24h, 7d, 30d, 90d."),
        ("/?page=0", "page must be a whole number from 1 to 2147483647."),
        ("/?page=1.5", "page must be a whole number"),
        ("/?page=99999999999999999999", "page must be a whole number"),
        ("/?range=custom", "since and until must be 1 minute to 92 days apart."),
        ("/?state=x", "state must be one of"),
        ("/?sort=x", "sort must be one of problems, name, longest, newest."),
        ("/?zone=Mars", "zone must be a time zone such as Asia/Seoul."),
        ("/?zone=../../etc/passwd", "zone must be a time zone"),
        ("/reports?kind=x", "kind must be one of"),
        ("/reports?range=7d", "A report has no range: choose kind=shift, day, week or month"),
        ("/reports?day=2026-13-01", "day must be a day such as 2026-11-25."),
        ("/source?id=x", "id must be a whole number"),
        ("/?until=yesterday", "until must be a time such as"),
        ("/?until=0001-01-01", "until must be a time such as"),
        ("/?until=9999-12-31T23:59:59", "until must be a time such as"),
        ("/?until=0001-01-01T00:00:00%2B23:00", "until must be a time such as"),
        ("/?lang=fr", "lang must be one of en, ko."),
        ("/logs?source=x", "source must be a whole number from 0 to 2147483647."),
        ("/logs?code=2147483648", "code must be a whole number from -2147483648"),
        ("/logs?code=%00", "code must be a whole number"),
        ("/logs?before=x", "before must come from a link of this page."),
        ("/logs?before=2025-01-01_1", "before must come from a link of this page."),
        ("/rejected?before=%D9%A3", "before must be a whole number"),
        ("/rejected?before=9223372036854775808", "before must be a whole number"),
        ("/codes?from=x", "from must be a whole number"),
        ("/codes?saved=x", "saved must be a whole number"),
    ],
)
async def test_a_wrong_parameter_is_named(alone: Running, path: str, message: str) -> None:
    text = words(await look(alone, path, 400))
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/reports?since=a", "since must be a time such as"),
        ("/reports?kind=day&until=a", "until must be a time such as"),
        ("/reports?since=2026-11-25", "since and until must be times at most 366 days apart"),
        ("/logs?source=99", "there is no source with the number 99"),
    ],
)
async def test_what_only_the_database_can_judge_is_named_too(
    receiver: Running, path: str, message: str
) -> None:
    assert message in words(await look(receiver, path, 400))


async def test_a_time_that_is_none_is_refused(receiver: Running) -> None:
    await look(receiver, "/logs?before=2025-13-45+00:00:00%2B00_1", 400)


async def test_faults_are_told_in_korean_too(alone: Running) -> None:
    assert "정수여야 합니다" in words(await look(alone, "/?page=x", 400, KOREAN))


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_database_pages_say_so(alone: Running, path: str) -> None:
    page = await look(alone, path, 503)
    assert "The database cannot be read now" in words(page)
    assert "data-reload" in page


async def test_without_tables_pages_say_so(
    empty_database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(database_url=empty_database_url, migrate_on_start=False)
    async with showing(settings) as receiver:
        assert "receiver migrate" in words(await look(receiver, "/", 503))


@pytest.mark.parametrize("path", [*PAGES, "/static/page.css", "/?range=x"])
async def test_a_browser_is_told_to_be_careful(alone: Running, path: str) -> None:
    async with alone.session.get(alone.url(path)) as response:
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert not [source for source in policy if "unsafe" in source or "*" in source]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        text = await response.text()
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", text)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")],
)
async def test_the_pages_own_files(alone: Running, path: str, kind: str) -> None:
    async with alone.session.get(alone.url(f"/static/{path}")) as response:
        assert (response.status, response.content_type) == (200, kind)


async def test_the_pages_own_files_are_kept_by_browsers(alone: Running) -> None:
    page = await look(alone, "/", 503)
    files = re.findall(r'"(static/[^"]+)"', page)
    assert len(files) == 3
    for file in files:
        async with alone.session.get(alone.url(f"/{file}")) as response:
            assert "immutable" in response.headers["Cache-Control"]
    async with alone.session.get(alone.url("/static/page.css?v=x")) as response:
        assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("headers", "compressed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Accept-Encoding": "identity"}, False),
    ],
)
async def test_pages_are_compressed_unless_another_site_asks(
    receiver: Running, headers: dict[str, str], compressed: bool
) -> None:
    given = {"Accept-Encoding": "gzip", **headers}
    async with receiver.session.get(receiver.url("/"), headers=given) as response:
        assert response.status == 200
        assert (response.headers.get("Content-Encoding") == "gzip") == compressed
        assert "</html>" in await response.text()


@pytest.mark.parametrize("length", ["1h", "24h"])
async def test_an_update_reads_what_is_new(
    receiver: Running, database_url: str, monkeypatch: pytest.MonkeyPatch, length: str
) -> None:
    await fill(database_url)
    asked: list[timedelta] = []

    async def read(
        connection: asyncpg.Connection,
        table: Table,
        window: tuple[datetime, datetime],
        sources: Collection[int],
    ) -> dict[int, list[Stretch]]:
        asked.append(window[1] - window[0])
        return await read_stretches(connection, table, window, sources)

    monkeypatch.setattr(floor_pages, "read_stretches", read)
    await look(receiver, f"/?range={length}")
    assert asked
    asked.clear()
    await look(receiver, f"/?range={length}")
    assert asked
    # Today's failures are not counted again from midnight.
    assert max(asked) < timedelta(minutes=10)


async def test_long_names_are_told_apart_by_their_ends(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.executemany(
        "INSERT INTO sources (labels, digest) "
        "VALUES (jsonb_build_object('instance', $1::text), $2)",
        [("camera/" * 60 + end, end.encode()) for end in ("north", "south")],
    )
    text = words(await look(receiver, "/"))
    assert "camera/north" in text
    assert "camera/south" in text
    assert "camera/" * 30 not in text


async def test_a_page_that_does_not_exist_is_a_page(alone: Running) -> None:
    html = {"Accept": "text/html,*/*"}
    for path in ("/nowhere", "/static/x", "/favicon.ico"):
        assert "There is no such page" in words(await look(alone, path, 404, html))
        async with alone.session.get(alone.url(path)) as response:
            assert (response.status, response.content_type) == (404, "text/plain")
    assert MARKUP not in await look(alone, f"/{MARKUP}", 404, html)


async def test_a_page_that_does_not_exist_has_its_style_and_links_at_any_depth(
    alone: Running,
) -> None:
    html = {"Accept": "text/html,*/*"}
    address = alone.url("/lines/a%3Fb/board")
    page = await look(alone, "/lines/a%3Fb/board", 404, html)
    found = [unescape(link) for link in re.findall(r'(?:href|src)="([^"#]+)"', page)]
    reached = {urlsplit(urljoin(address, link)).path for link in found}
    assert {"/", "/board", "/static/page.css", "/static/page.js", "/lines/a%3Fb/board"} <= reached
    assert all(link.startswith("../../") for link in found)
    scheme = await look(alone, "/javascript:alert(1)", 404, html)
    assert '"javascript:' not in scheme


async def test_times_are_in_the_zone_that_the_browser_named(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 0]))
    korean = {"Cookie": "receiver_zone=Asia/Seoul"}
    page = words(await look(receiver, "/logs?range=all", headers=korean))
    assert "2025-03-03 18:00:05.000" in page
    ends = "/logs?range=15m&until=2025-03-03T18:00:05"
    assert (await look(receiver, ends, headers=korean)).count("<tr><td>") == 1
    assert (await look(receiver, f"{ends}&zone=UTC", headers=korean)).count("<tr><td>") == 0
    # An invalid zone is ignored.
    wrong = await look(receiver, "/logs?range=all", headers={"Cookie": "receiver_zone=Mars"})
    assert "2025-03-03 09:00:05.000" in words(wrong)


@pytest.mark.parametrize("path", ["x", "", "..%2fpages.py", "%2e%2e/pages.py", "../pages.py"])
async def test_no_other_files(alone: Running, path: str) -> None:
    async with alone.session.get(alone.url(f"/static/{path}")) as response:
        assert response.status == 404


async def test_all_links_lead_somewhere(receiver: Running, database_url: str) -> None:
    await fill(database_url)
    waiting, seen = ["/", "/?lang=ko"], set[str]()
    while waiting:
        path = waiting.pop()
        kind = (urlsplit(path).path, *sorted(parse_qs(urlsplit(path).query)))
        if str(kind) in seen:
            continue
        seen.add(str(kind))
        async with receiver.session.get(receiver.url(path)) as response:
            assert response.status == 200, path
            # A report that is downloaded as a file has no links.
            page = await response.text() if response.content_type == "text/html" else ""
        links = re.findall(r'(?:href|action)="([^"#]+)"', page)
        waiting += [
            urljoin(path, found.replace("&amp;", "&"))
            for found in links
            if "static" not in found and found != "source"
        ]
    assert len(seen) > 12
