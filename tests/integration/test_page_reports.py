"""Reports, their calendar and settings, and comments, over HTTP."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from yarl import URL

from receiver.web import answers
from receiver.web.answers import in_parts
from tests.conftest import MakeSettings
from tests.logs import GIVE_LINES, add_logs, add_sources, logs
from tests.pages import MARKUP, showing, words
from tests.receivers import Running

SAME = {"Sec-Fetch-Site": "same-origin"}
DAY = "/reports?kind=day&day=2025-03-03"


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with showing(make_settings(database_url=database_url), known=True) as running:
        yield running


@pytest.fixture
async def history(connection: asyncpg.Connection) -> None:
    """Store three hours of two lines, with failures of 10 and 2 minutes, and an earlier hour."""
    await add_sources(connection, 2)
    await connection.execute(GIVE_LINES)
    hour = [0] * 60
    failing = hour + [1] * 5 + [2] * 5 + [0] * 50 + [1] * 2 + [0] * 58
    await add_logs(connection, logs(1, failing, step=60) + logs(2, hour * 3, step=60))
    before = datetime(2025, 3, 2, 9, tzinfo=UTC)
    await add_logs(connection, logs(1, hour, start=before, step=60))


def here(receiver: Running, path: str) -> URL:
    return URL(receiver.url(path)).with_host("localhost")


async def look(receiver: Running, path: str, status: int = 200) -> str:
    async with receiver.session.get(here(receiver, path)) as response:
        text = await response.text()
        assert response.status == status, text
        return text


async def send(
    receiver: Running, path: str, form: Mapping[str, str], headers: Mapping[str, str] = SAME
) -> tuple[int, str]:
    """Open the page for its token, and send a form; return status and text."""
    page = await look(receiver, path)
    token = re.findall(r'name="token" value="([^"]+)"', page)[0]
    async with receiver.session.post(
        here(receiver, path), data={"token": token, **form}, headers=headers, allow_redirects=False
    ) as response:
        return response.status, await response.text()


async def test_a_report_of_many_sources_is_rendered_in_small_parts(
    receiver: Running, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other requests are served between the parts of a page."""
    await add_sources(connection, 100)
    await add_logs(connection, [row for source in range(1, 101) for row in logs(source, [0, 0])])
    parts: list[str] = []

    async def noted(page: Iterator[str]) -> AsyncIterator[str]:
        async for part in in_parts(page):
            parts.append(part)
            yield part

    monkeypatch.setattr(answers, "in_parts", noted)
    assert "cam-100" in await look(receiver, DAY)
    assert max(map(len, parts)) < 5_000


async def test_a_report_that_takes_too_long_says_what_to_do(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [0, 1, 0], step=60))
    await connection.execute(
        "CREATE OR REPLACE FUNCTION receiver_code_name(code_table TEXT, code INT) RETURNS TEXT "
        "LANGUAGE sql AS 'SELECT pg_sleep(60)::text'"
    )
    page = await look(receiver, DAY, 503)
    assert "takes too long for a page" in page
    assert "run the command receiver report" in page
    # A reload would take as long again.
    assert "data-reload" not in page


@pytest.mark.usefixtures("history")
async def test_a_report_has_the_figures_of_the_database(receiver: Running) -> None:
    text = words(await look(receiver, DAY))
    assert "2025-03-03 00:00 – 2025-03-04 00:00 (UTC) · 2 sources" in text
    # 12 of 360 minutes, and as many before the end of a row that nothing follows.
    assert "Availability 96.7% ▼ 3.3%p" in text
    assert "Failures 2 ▲ 2" in text
    assert "MTTR, mean time to repair 6 min 0 s" in text
    assert "Micro-stops (under 5 min) 1" in text
    assert "1 DB_ERROR 2 7 min 0 s 58.3% 58.3%" in text
    assert "2 NETWORK_ERROR 1 5 min 0 s 41.7% 100.0%" in text


@pytest.mark.usefixtures("history")
async def test_figures_of_groups_are_sums_of_times(receiver: Running) -> None:
    text = words(await look(receiver, f"{DAY}&by=line"))
    assert "A 1 source 93.3%" in text
    assert "B 1 source 100.0%" in text
    alone = words(await look(receiver, f"{DAY}&only=line=B"))
    assert "Availability 100.0%" in alone
    assert "No failure in this period." in alone


@pytest.mark.usefixtures("history")
async def test_a_report_by_source_has_the_lines_too(receiver: Running) -> None:
    text = words(await look(receiver, DAY))
    assert text.index("By line") < text.index("A 1 source 93.3%") < text.index("By source")
    # A report of one line, or grouped by another label, shows nothing twice.
    for more in ("&only=line=B", "&by=line", "&by=job"):
        assert words(await look(receiver, DAY + more)).count("MTBF Micro-stops") == 1


@pytest.mark.usefixtures("history")
async def test_times_alone_ask_for_a_report_of_any_range(receiver: Running) -> None:
    times = "since=2025-03-03T08:00&until=2025-03-03T09:00"
    asked = words(await look(receiver, f"/reports?{times}"))
    assert "2025-03-03 08:00 – 2025-03-03 09:00" in asked
    assert asked == words(await look(receiver, f"/reports?kind=custom&{times}"))
    # The form keeps the times when another period is chosen.
    day = words(await look(receiver, f"{DAY}&{times}"))
    assert "2025-03-03 00:00 – 2025-03-04 00:00" in day


@pytest.mark.usefixtures("history")
async def test_a_shift_is_two_clicks_away(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO report_shifts (name, starts, ends) "
        "VALUES ('early', '06:00', '18:00'), ('late', '18:00', '06:00')"
    )
    page = await look(receiver, "/reports")
    links = re.findall(r'class="button" href="([^"]*)"[^>]*><bdi>(early|late)', page)
    assert [name for _, name in links] == ["early", "late"]
    late = words(await look(receiver, "/" + links[1][0].replace("&amp;", "&")))
    assert "Shift report · late" in late


@pytest.mark.usefixtures("history")
async def test_a_running_period_is_not_called_better_for_fewer_failures(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    yesterday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=6)
    await add_logs(connection, logs(1, [0, 1, 0, 1, 0], start=yesterday, step=60))
    await add_logs(connection, logs(1, [0] * 3, start=now - timedelta(seconds=3), step=1))
    page = await look(receiver, "/reports?kind=day")
    assert "compared with the whole previous period" in words(page)
    (failures,) = re.findall(r'id="failures".*?</a>', page)
    assert "▼ 2" in failures
    assert "better" not in failures


@pytest.mark.usefixtures("history")
async def test_every_figure_leads_to_its_rows(receiver: Running) -> None:
    page = await look(receiver, DAY)
    (rows,) = set(re.findall(r'href="(logs\?[^"]*code=1&[^"]*)"', page))
    assert (await look(receiver, "/" + rows.replace("&amp;", "&"))).count("<tr><td>") == 7
    source = re.findall(r'href="(source\?id=1&[^"]*)"', page)[0].replace("&amp;", "&")
    page = await look(receiver, "/" + source)
    states = re.findall(r'<tr id="at-\d+">.*?<bdi>(.*?)</bdi>', page)
    assert states.count("DB_ERROR (1)") == 2
    # Its rows are those of the same range.
    (rows,) = re.findall(r'href="(logs\?[^"]*source=1[^"]*)"', page)
    assert "since=2025-03-03T00%3A00%3A00Z" in rows
    assert "until=2025-03-04T00%3A00%3A00Z" in rows


@pytest.mark.usefixtures("history")
async def test_files_for_spreadsheets_and_programs(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "UPDATE sources SET labels = labels || $1 WHERE id = 2", json.dumps({"instance": "=1+1"})
    )
    async with receiver.session.get(here(receiver, DAY.replace("?", ".csv?"))) as response:
        body = await response.read()
        assert response.content_type == "text/csv"
        assert "report-day-2025-03-03.csv" in response.headers["Content-Disposition"]
    assert body.startswith(b"\xef\xbb\xbfstart,end,by,name,")
    lines = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
    assert [line["name"] for line in lines] == ["cam-1", "'=1+1", "total"]
    assert [line["by"] for line in lines] == ["source", "source", "total"]
    assert {line["start_local"] for line in lines} == {"2025-03-03 00:00:00"}
    assert [line["failures"] for line in lines] == ["2", "0", "2"]
    assert [float(line["down_seconds"]) for line in lines] == [720, 0, 720]
    async with receiver.session.get(here(receiver, DAY.replace("?", ".json?"))) as response:
        found = await response.json()
    assert found["total"]["mttr_seconds"] == 360
    assert [code["down"] for code in found["codes"]] == [420, 300]
    assert found["lines"][1]["name"] == "=1+1"


@pytest.mark.usefixtures("history")
async def test_the_calendar_is_edited_and_reports_follow(receiver: Running) -> None:
    assert (
        await send(
            receiver,
            "/calendar",
            {"action": "rules", "time_zone": "Asia/Seoul", "micro_stop": "60"},
        )
    )[0] == 303
    days = {f"day{day}": "1" for day in range(1, 8)}
    night = {"action": "shift", "name": "야간", "starts": "19:00", "ends": "07:00", **days}
    assert (await send(receiver, "/calendar", night))[0] == 303
    page = words(await look(receiver, "/calendar"))
    assert "야간 19:00 07:00 next day" in page
    # In Seoul the rows of the history begin at 18:00.
    text = words(await look(receiver, "/reports?kind=shift&day=2025-03-03"))
    assert "Shift report · 야간" in text
    assert "2025-03-03 19:00 – 2025-03-04 07:00 (Asia/Seoul)" in text
    assert "Failures 2" in text
    assert "Micro-stops (under 1 min) 0" in text
    early = {"action": "shift", "name": "early", "starts": "05:00", "ends": "19:00", **days}
    assert (await send(receiver, "/calendar", early))[0] == 303
    text = words(await look(receiver, f"{DAY}&by=shift"))
    lines = text.partition("By shift")[2]
    # The first of three hours is of one, the others of the other, and so are 12 of 240 minutes.
    assert "early 100.0%" in lines
    assert "야간 95.0%" in lines
    assert "Time outside of all shifts is not listed." in lines
    remove = {"action": "remove_shift", "name": "early"}
    assert (await send(receiver, "/calendar", remove))[0] == 303
    holiday = {"action": "holiday", "day": "2025-03-03", "name": "휴일"}
    assert (await send(receiver, "/calendar", holiday))[0] == 303
    assert "Report of the day" in words(await look(receiver, "/reports?kind=shift&day=2025-03-03"))
    assert (await send(receiver, "/calendar", {"action": "remove_holiday", "day": "2025-03-03"}))[0]
    stop = {
        "action": "stop",
        "zone": "Asia/Seoul",
        "since": "2025-03-03T19:00",
        "until": "2025-03-03T19:30",
        "label": "line=A",
        "reason": MARKUP,
        "source": "",
    }
    assert (await send(receiver, "/calendar", stop))[0] == 303
    assert "Failures 1" in words(await look(receiver, "/reports?kind=shift&day=2025-03-03"))
    page = await look(receiver, "/calendar")
    assert MARKUP not in page
    assert "line=A" in page
    assert (await send(receiver, "/calendar", {"action": "remove_stop", "id": "1"}))[0] == 303
    assert (await send(receiver, "/calendar", {"action": "remove_shift", "name": "야간"}))[0] == 303
    assert "There are no shifts." in words(await look(receiver, "/calendar"))


WRONG: list[tuple[dict[str, str], str]] = [
    ({"action": "x"}, "action must be one of"),
    (
        {"action": "rules", "time_zone": "Mars", "micro_stop": "1"},
        "“Time zone” must be a",
    ),
    ({"action": "rules", "time_zone": "UTC", "micro_stop": "-1"}, "(seconds)” must be a whole"),
    (
        {"action": "shift", "name": "x", "starts": "07:00", "ends": "24:00"},
        "Choose at least one day",
    ),
    ({"action": "shift", "name": "x", "day1": "1", "starts": "7", "ends": "9"}, "“From” must be"),
    ({"action": "holiday", "day": "2025-02-30"}, "“Day” must be a day"),
    ({"action": "stop", "zone": "UTC", "since": "2025-03-03", "until": "2025-03-02"}, "later end"),
    (
        {
            "action": "stop",
            "zone": "UTC",
            "since": "2025-03-03",
            "until": "2025-03-04",
            "label": "line",
        },
        "label must be a name and a value, such as",
    ),
    (
        {
            "action": "stop",
            "zone": "UTC",
            "since": "2025-03-03",
            "until": "2025-03-04",
            "source": "77",
        },
        "there is no source 77",
    ),
]


async def test_a_wrong_form_of_the_calendar_is_explained(receiver: Running) -> None:
    for form, message in WRONG:
        status, page = await send(receiver, "/calendar", form)
        assert (status, message in page) == (400, True), (form, words(page))


@pytest.mark.usefixtures("history")
async def test_a_source_is_chosen_by_name(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.execute('UPDATE sources SET labels = \'{"instance": "zz"}\' WHERE id = 1')
    for path in ("/logs", "/calendar"):
        page = await look(receiver, path)
        (chosen,) = re.findall(r'<select id="(?:stop-)?source".*?</select>', page, re.DOTALL)
        assert re.findall(r'<option value="(\d+)"', chosen)[-1] == "1"


@pytest.mark.usefixtures("history")
async def test_a_state_is_commented_on(receiver: Running, connection: asyncpg.Connection) -> None:
    path = "/source?id=1&range=6h&until=2025-03-03T12:00:00Z"
    page = await look(receiver, path)
    (at,) = re.findall(r'name="at" value="(2025-03-03T10:00:00[^"]*)"', page)
    form = {"at": at, "cause": "렌즈", "comment": MARKUP}
    assert (await send(receiver, path, form))[0] == 303
    page = await look(receiver, path)
    assert "<b>렌즈</b>" in page
    assert MARKUP not in page
    assert "by operator" in words(page)
    assert "작성자 operator" in words(await look(receiver, f"{path}&lang=ko"))
    await connection.execute("UPDATE state_comments SET author = $1", MARKUP)
    assert MARKUP not in await look(receiver, path)
    await connection.execute("UPDATE state_comments SET author = NULL")
    assert "작성자" not in words(await look(receiver, f"{path}&lang=ko"))
    assert (await send(receiver, path, {**form, "cause": "", "comment": ""}))[0] == 303
    assert await connection.fetchval("SELECT count(*) FROM state_comments") == 0


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("path", ["/calendar", "/source?id=1&range=6h&until=2025-03-03T12:00:00Z"])
async def test_only_forms_of_the_page_are_accepted(receiver: Running, path: str) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        form = {"action": "holiday", "day": "2025-03-03", "at": "2025-03-03T10:00:00Z"}
        assert (await send(receiver, path, form, headers))[0] == 403
    async with receiver.session.post(here(receiver, path), data={}, headers=SAME) as response:
        assert response.status == 403


async def test_without_a_credential_nothing_can_be_edited(
    database_url: str, make_settings: MakeSettings
) -> None:
    async with showing(make_settings(database_url=database_url)) as receiver:
        page = await look(receiver, "/calendar")
        assert 'method="post"' not in page
        assert "RECEIVER_CREDENTIALS_FILE" in page


async def test_a_shift_that_runs_is_compared_with_the_one_before(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await add_sources(connection, 1)
    now = datetime.now(UTC)
    await add_logs(connection, logs(1, [0] * 60, start=now - timedelta(minutes=5)))
    text = words(await look(receiver, "/reports"))
    assert "not over yet" in text
    assert "Availability 100.0%" in text
