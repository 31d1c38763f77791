"""The page in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import bcrypt
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    HttpCredentials,
    Page,
    Request,
    Route,
    async_playwright,
)

from tests.conftest import MakeSettings
from tests.logs import add_logs, add_sources, logs
from tests.pages import SOURCES, fill, showing
from tests.programs import require_program
from tests.receivers import Running, encode
from tests.waiting import until

PAGES = [
    *("/", "/?group=job", "/board", "/source?id=1", "/reports", "/calendar"),
    *("/logs", "/rejected", "/codes"),
]
MORE_PAGES = [
    *("/?q=cam", "/?q=nothing", "/board?group=job", "/reports?kind=week&by=job"),
    *("/reports?day=2020-01-01", "/logs?code=2", "/source?id=1&range=7d", "/nowhere"),
    *("/?page=x", "/source?id=99999"),
]
ELSEWHERE = "receiver.test"
"""A name for this machine that browsers do not trust like localhost: no secure context."""
WIDTHS = [320, 360, 480, 768, 1024, 1280, 1920, 3840]
# Whatever can be worked by keyboard and is shown.
# Identified by a property that the script adds, since the texts change every second.
REACHABLE = """
[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter(part => part.checkVisibility() && part.type !== "hidden")
    .map((part, number) => { part.mark = number; return part.outerHTML.slice(0, 120); })
"""
FOCUSED = """
() => {
    const part = document.activeElement, style = getComputedStyle(part);
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const box = part.getBoundingClientRect();
    return [part === document.body ? null : part.mark ?? -1, seen && box.width > 0];
}
"""
OPEN_ALL = "for (const part of document.querySelectorAll('details')) part.open = true"
NAMED = {
    *("link", "button", "textbox", "combobox", "spinbutton", "img", "region", "navigation"),
    *("form", "table", "heading", "Date"),
}


class Watched(NamedTuple):
    """A page, and what should not happen on it."""

    page: Page
    complaints: list[str]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = require_program("chromium")
    flags = [f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
    if os.geteuid() == 0:
        # Chromium's sandbox does not work as root.
        flags.append("--no-sandbox")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser,
    **options: Any,  # noqa: ANN401  of playwright
) -> AsyncIterator[Watched]:
    """Open a page that records errors, and requests to any host but the receiver."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        complaints.append(f"console: {message.text}")

    def notice(request: Request) -> None:
        if urlsplit(request.url).hostname not in {"127.0.0.1", ELSEWHERE}:
            complaints.append(f"request: {request.url}")

    context = await browser.new_context(**options)
    page = await context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", notice)
    yield Watched(page, complaints)
    await context.close()


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    await fill(database_url)
    settings = make_settings(database_url=database_url, allowed_hosts=ELSEWHERE)
    async with showing(settings, known=True) as running:
        yield running


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ko-KR")])
async def test_pages_fit_every_screen(
    browser: Browser, receiver: Running, scheme: Literal["light", "dark"], locale: str
) -> None:
    async with opened(browser, color_scheme=scheme, locale=locale) as (page, complaints):
        grounds = set()
        for path in [*PAGES, "/?page=x"]:
            await page.goto(receiver.url(path))
            assert await page.get_attribute("html", "lang") == locale[:2]
            await page.evaluate(OPEN_ALL)
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 900})
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, path
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == {"rgb(245, 246, 248)" if scheme == "light" else "rgb(13, 16, 20)"}
        # The last page was asked for by a wrong address.
        assert [found for found in complaints if "400 (Bad Request)" not in found] == []


async def test_the_keyboard_reaches_everything(browser: Browser, receiver: Running) -> None:
    async with opened(browser) as (page, complaints):
        for path in PAGES:
            await page.goto(receiver.url(path))
            reachable = await page.evaluate(REACHABLE)
            assert len(reachable) >= (1 if path == "/board" else 10)
            focused = set[int]()
            for _ in range(4 * len(reachable)):
                await page.keyboard.press("Tab")
                part, seen = await page.evaluate(FOCUSED)
                if part is None:
                    break
                assert seen, part
                focused.add(part)
            missed = [part for mark, part in enumerate(reachable) if mark not in focused]
            assert missed == [], path
        assert complaints == []


async def test_the_first_link_leads_past_the_menus(browser: Browser, receiver: Running) -> None:
    async with opened(browser) as (page, _):
        await page.goto(receiver.url("/"))
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "content"


async def test_everything_has_a_name(browser: Browser, receiver: Running) -> None:
    async with opened(browser) as (page, _):
        for path in PAGES:
            await page.goto(receiver.url(path))
            await page.evaluate(OPEN_ALL)
            nodes = await accessible(page)
            roles = {role for role, _ in nodes}
            assert "main" in roles
            assert path == "/board" or {"banner", "contentinfo", "navigation"} <= roles
            assert [role for role, name in nodes if role in NAMED and not name] == []
            headings = await page.evaluate(
                "[...document.querySelectorAll('h1, h2, h3')].map(part => Number(part.tagName[1]))"
            )
            assert headings[0] == 1
            assert headings.count(1) == 1
            assert all(after - before <= 1 for before, after in pairwise(headings))
            if path == "/":
                strips = [name for role, name in nodes if role == "image" and "cam-1:" in name]
                assert "Failing" in strips[0]


async def accessible(page: Page) -> list[tuple[str, str]]:
    """Return role and name of every element that a screen reader announces."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    return [
        (node["role"]["value"], node["name"]["value"].strip() if "name" in node else "")
        for node in tree["nodes"]
        if not node["ignored"]
    ]


AXE = "axe.run(document, {resultTypes: ['violations']})"


@pytest.mark.parametrize(("scheme", "locale"), [("light", "ko-KR"), ("dark", "en-US")])
async def test_axe_finds_nothing(
    browser: Browser,
    receiver: Running,
    connection: asyncpg.Connection,
    scheme: Literal["light", "dark"],
    locale: str,
) -> None:
    await connection.execute(
        "INSERT INTO planned_stops (started_at, ended_at, reason) "
        "SELECT now() - i * INTERVAL '1 day', now() - i * INTERVAL '23 h', 'lunch' "
        "FROM generate_series(2, 3) AS i"
    )
    source = (files("axe_playwright_python") / "axe.min.js").read_text()
    async with opened(browser, color_scheme=scheme, locale=locale) as (page, _):
        for path in [*PAGES, *MORE_PAGES]:
            await page.goto(receiver.url(path))
            await page.evaluate(OPEN_ALL)
            if path in {"/?q=cam", "/board?group=job"}:
                await page.evaluate("stale()")
            # Through the debugger, since the page's policy allows only its own scripts.
            session = await page.context.new_cdp_session(page)
            await session.send("Runtime.evaluate", {"expression": source})
            found = await page.evaluate(AXE)
            shown = [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
            assert shown == [], path


async def test_pages_are_printed_dark_on_white(browser: Browser, receiver: Running) -> None:
    style = "(part) => [getComputedStyle(part).backgroundColor, getComputedStyle(part).color]"
    for scheme in ("light", "dark"):
        async with opened(browser, color_scheme=scheme) as (page, _):
            await page.goto(receiver.url("/reports"))
            await page.emulate_media(media="print")
            for part in ("body", ".card >> nth=0"):
                assert await page.locator(part).evaluate(style) == [
                    "rgb(255, 255, 255)",
                    "rgb(0, 0, 0)",
                ]
            assert not await page.locator("form >> nth=0").is_visible()


@pytest.mark.parametrize("scripts", [True, False])
async def test_what_needs_scripts_is_shown_with_them_only(
    browser: Browser, receiver: Running, scripts: bool
) -> None:
    async with opened(browser, java_script_enabled=scripts) as (page, _):
        await page.goto(receiver.url("/reports"))
        assert await page.locator("#print").is_visible() == scripts
        await page.goto(receiver.url("/"))
        assert await page.locator("#pause").is_visible() == scripts


def shown_in(zone: timedelta, exact: str) -> str:
    """Format a time as the page does in a zone."""
    time = datetime.fromisoformat(exact) + zone
    return time.isoformat(" ", "milliseconds").removesuffix("+00:00")


@pytest.mark.parametrize("scripts", [True, False])
async def test_times_are_in_the_zone_of_the_browser(
    browser: Browser, receiver: Running, scripts: bool
) -> None:
    async with opened(browser, timezone_id="Asia/Seoul", java_script_enabled=scripts) as (page, _):
        await page.goto(receiver.url("/logs"))
        zone = "Asia/Seoul" if scripts else "UTC"
        # On the first visit the browser reports its zone, and the page is reloaded.
        await page.get_by_text(f"Times are in the zone {zone}.").wait_for()
        times = [
            (await time.get_attribute("datetime"), await time.inner_text())
            for time in await page.locator("#rows time").all()
        ]
        assert times
        ahead = timedelta(hours=9 if scripts else 0)
        assert times == [(exact, shown_in(ahead, exact or "")) for exact, _ in times]
        # What is picked is in the same zone.
        assert await page.get_by_label(f"End ({zone}; empty: now)").count() == 1
        newest = times[0][1][:19].replace(" ", "T")
        await page.locator("#until").fill(newest)
        await page.get_by_role("button", name="Show").click()
        assert await page.locator("#until").input_value() == newest
        first = await page.locator("#rows time").first.get_attribute("datetime")
        assert first is not None
        assert shown_in(ahead, first)[:19] < newest.replace("T", " ")


async def test_the_page_keeps_itself_up_to_date(
    browser: Browser, receiver: Running, connection: asyncpg.Connection
) -> None:
    async with opened(browser) as (page, complaints):
        await page.clock.install()
        await page.goto(receiver.url("/"))
        summary, row = page.locator("#summary"), page.locator("#s-1")

        async def becomes(status: int, name: str) -> None:
            await connection.execute(
                "INSERT INTO app_logs (source_id, app_status, ocr_value) VALUES (1, $1, now())",
                status,
            )
            await page.clock.fast_forward(5_500)

            async def updated() -> bool:
                return name in await row.inner_text()

            await until(updated)

        # An element that is focused, opened or hovered stays as it is; everything else is updated.
        await page.locator("#s-1 summary").click()
        await page.locator("#s-1 summary").focus()
        await page.mouse.wheel(0, 300)
        await becomes(2, "NETWORK_ERROR")
        assert "Failing\n1" in await summary.inner_text()
        assert await page.evaluate("document.activeElement.closest('tr').id") == "s-1"
        assert await page.locator("#d-1[open]").count() == 1
        assert await page.title() == "(1) Overview · receiver"
        await page.locator("#s-1 .strip").hover()
        await becomes(1, "DB_ERROR")
        await page.locator("#q").fill("cam")
        await becomes(0, "OK")
        assert await page.locator("#q").input_value() == "cam"
        assert await page.evaluate("document.activeElement.id") == "q"
        assert "Failing\n0" in await summary.inner_text()

        # A paused page gets no updates, and says so.
        await page.get_by_role("button", name="Pause updates").click()
        before = len(asked := await requests(page))
        await page.clock.fast_forward(60_000)
        assert len(asked) == before
        assert await page.locator("html[data-paused]").count() == 1
        assert complaints == []


@pytest.mark.parametrize(
    ("path", "way"),
    [
        *(("/board", way) for way in ("offline", "gone", "hanging", "failing")),
        *(("/", "gone"), ("/source?id=1", "hanging")),
    ],
)
async def test_a_page_without_updates_says_so_within_ten_seconds(
    browser: Browser, receiver: Running, path: str, way: str
) -> None:
    async with opened(browser) as (page, _):
        await page.goto(receiver.url(path))

        async def beats() -> bool:
            return bool(await page.evaluate("document.documentElement.dataset.beat"))

        await until(beats)
        warning = page.locator("#lost")
        assert not await warning.is_visible()
        if way == "offline":
            await page.context.set_offline(True)
        elif way == "gone":
            await page.route("**/*", lambda route: route.abort())
        elif way == "failing":
            await page.route("**/*", lambda route: route.fulfill(status=503, body="no"))
        else:
            await page.route("**/*", hang)
        begun = await page.evaluate("performance.now()")
        await warning.wait_for(state="visible", timeout=20_000)
        assert await page.evaluate("performance.now()") - begun < 10_000
        assert "not up to date" in await warning.inner_text()
        # Green elements turn grey.
        faded = page.locator(".fades")
        assert "grayscale(1)" in await faded.evaluate("part => getComputedStyle(part).filter")
        # Nobody knows whether data still arrives.
        for flow in await page.locator(".foot .flow, p.flow").all():
            assert not await flow.is_visible()
        await page.context.set_offline(False)
        await page.unroute_all()
        await warning.wait_for(state="hidden", timeout=20_000)


async def hang(_: Route) -> None:
    """Leave a request without an answer."""


async def test_the_style_sheet_warns_even_if_the_script_has_died(
    browser: Browser, receiver: Running
) -> None:
    async with opened(browser, java_script_enabled=False) as (page, _):
        await page.goto(receiver.url("/"))
        warning = page.locator("#lost")
        assert not await warning.is_visible()
        await warning.wait_for(state="visible", timeout=20_000)
        assert "does not update by itself" in await warning.inner_text()


async def test_a_silent_source_is_no_longer_well(
    browser: Browser, receiver: Running, connection: asyncpg.Connection
) -> None:
    # A row each second until now: after three without one it is silent.
    await connection.execute(
        "INSERT INTO app_logs (source_id, app_status, ocr_value, created_at) "
        "SELECT 3, 0, now(), now() - i * INTERVAL '1 s' FROM generate_series(0, 20) AS i "
        "ON CONFLICT DO NOTHING"
    )
    async with opened(browser) as (page, _):
        await page.goto(receiver.url("/board"))
        tile = page.locator("#t-3.silent")
        await tile.wait_for(timeout=10_000)
        assert "Silent" in await tile.inner_text()


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (3840, 2160)])
@pytest.mark.parametrize("failing", [1, 9, 40])
async def test_the_board_is_read_from_afar(
    browser: Browser,
    receiver: Running,
    connection: asyncpg.Connection,
    width: int,
    height: int,
    failing: int,
) -> None:
    await add_sources(connection, 300 - SOURCES, first=SOURCES + 1)
    start = datetime.now(UTC) - timedelta(minutes=1)
    for source in range(13, 301):
        status = 2 if source < 13 + failing else 0
        await add_logs(connection, logs(source, [status] * 12, start=start))
    async with opened(browser, viewport={"width": width, "height": height}) as (page, complaints):
        await page.goto(receiver.url("/board"))
        tall, wide = await page.evaluate(
            "[document.documentElement.scrollHeight, document.documentElement.scrollWidth]"
        )
        # Nobody can scroll.
        assert (tall, wide) == (height, width)
        # One source has fallen silent, too; 41 are shown in three turns.
        assert await page.locator(".tile").count() in {failing + 1, 13, 14}
        # A letter must be a two hundredth of the distance: at 6 m, 30 mm on a screen that is 700
        # high.
        sizes = await page.evaluate(SIZES)
        for part, size in sizes.items():
            assert size / height >= SMALLEST[part], (part, size)
        cut = await page.evaluate(
            "[...document.querySelectorAll('.what')].filter(part => part.scrollWidth > "
            "part.clientWidth + 1).map(part => part.textContent)"
        )
        assert cut == []
        assert complaints == []


SIZES = """
Object.fromEntries(["who", "what", "time"].map(name => [name, Math.min(
    ...[...document.querySelectorAll(".tile ." + name)].map(
        part => parseFloat(getComputedStyle(part).fontSize)))]))
"""
SMALLEST = {"who": 0.02, "what": 0.025, "time": 0.04}
"""Fractions of the screen's height."""


async def test_dragging_zooms_into_a_timeline(browser: Browser, receiver: Running) -> None:
    async with opened(browser, timezone_id="Asia/Seoul") as (page, complaints):
        await page.goto(receiver.url("/?range=1h"))
        await page.get_by_text("Times are in the zone Asia/Seoul.").wait_for()
        strip = page.locator("#s-1 .strip")
        await strip.scroll_into_view_if_needed()
        box = await strip.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        await page.mouse.move(box["x"] + box["width"] * 0.25, middle)
        await page.locator(".pointed").wait_for()
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=5)
        await page.mouse.up()
        await page.wait_for_url("**range=custom**")
        since = await page.locator("#s-1 .strip").get_attribute("data-since")
        until = await page.locator("#s-1 .strip").get_attribute("data-until")
        assert 1_700 < float(until or 0) - float(since or 0) < 1_900
        assert complaints == []


async def requests(page: Page) -> list[str]:
    """Return a list that records each request from now on."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    return urls


@pytest.mark.parametrize("host", ["127.0.0.1", ELSEWHERE])
async def test_a_code_is_added_and_renamed_by_hand(
    browser: Browser, receiver: Running, host: str
) -> None:
    async with opened(browser) as (page, complaints):
        await page.goto(receiver.url("/codes").replace("127.0.0.1", host))
        form = page.get_by_role("form", name="Add a code")
        await form.get_by_label("Code").fill("42")
        await form.get_by_label("Name").fill("LAMP_OLD")
        await form.get_by_label("Description").fill("램프 교체")
        await form.get_by_role("button", name="Add").click()
        assert await page.get_by_role("status").first.inner_text() == "Code 42 was saved."
        await page.get_by_label("Change code 42").first.click()
        form = page.get_by_role("form", name="Change code 42")
        await form.get_by_label("Name").fill("LAMP_DARK")
        await form.get_by_role("button", name="Save").click()
        row = page.get_by_role("row").filter(has_text="LAMP_DARK")
        assert "램프 교체" in await row.inner_text()
        assert complaints == []


async def test_a_password_lets_a_browser_in(
    browser: Browser, database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    await fill(database_url)
    file = tmp_path / "credentials.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    file.write_text(yaml.safe_dump({"basic_auth_users": {"operator": hashed}}))
    settings = make_settings(database_url=database_url, credentials_file=file)
    async with showing(settings) as receiver:
        assert (await receiver.get("/"))[0] == 401
        password: HttpCredentials = {"username": "operator", "password": "secret"}
        async with opened(browser, http_credentials=password) as (page, complaints):
            await page.clock.install()
            await page.goto(receiver.url("/"))
            await page.clock.fast_forward(5_500)
            await page.get_by_text("Updated").wait_for()
            await page.goto(receiver.url("/codes"))
            await page.get_by_label("Change code 99").first.click()
            form = page.get_by_role("form", name="Change code 99")
            await form.get_by_label("Name").fill("LAMP_DARK")
            await form.get_by_role("button", name="Save").click()
            await page.get_by_text("Code 99 was saved.").wait_for()
            assert complaints == []


async def test_another_site_cannot_change_a_code(
    browser: Browser, receiver: Running, connection: asyncpg.Connection
) -> None:
    async with opened(browser) as (page, _):
        await page.goto(receiver.url("/codes"))
        token = await page.locator("input[name=token]").first.get_attribute("value")
        fields = {"token": token, "action": "add", "code": "43", "name": "EVIL"}
        inputs = "".join(f'<input name="{name}" value="{text}">' for name, text in fields.items())
        form = f'<form method="post" action="{receiver.url("/codes")}">{inputs}<button>Go</form>'
        other = "http://other.test/"
        await page.route(other, lambda route: route.fulfill(body=form, content_type="text/html"))
        await page.goto(other)
        await page.get_by_role("button").click()
        await page.get_by_role("heading", name="This is not allowed").wait_for()
    assert not await connection.fetchval("SELECT count(*) FROM error_codes WHERE code = 43")


WRITE = """
async ([url, body]) => await fetch(url, {
    method: "POST", mode: "no-cors", body: new Blob([Uint8Array.from(body)]),
})
"""


@pytest.fixture
async def other_port() -> AsyncIterator[int]:
    """Run an unrelated server on this machine; yield its port."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<title>evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


@pytest.mark.parametrize("site", ["127.0.0.1", "localhost"])
async def test_another_site_cannot_write(
    browser: Browser,
    receiver: Running,
    connection: asyncpg.Connection,
    other_port: int,
    site: str,
) -> None:
    labels = {"job": "evil", "instance": "x"}
    pair = [({**labels, "__name__": name}, 1000, 1.0) for name in ("app_status", "ocr_value")]
    async with opened(browser) as (page, _):
        await page.goto(f"http://{site}:{other_port}/")
        await page.evaluate(WRITE, [receiver.url(), list(encode(pair))])
    _, metrics = await receiver.get("/metrics")
    assert 'receiver_refused_requests_total{cause="foreign_page"} 1.0' in metrics
    # The same body is stored if no browser sends it.
    count = 'SELECT count(*) FROM sources WHERE labels @> \'{"job": "evil"}\''
    assert await connection.fetchval(count) == 0
    await receiver.send(*pair)
    assert await connection.fetchval(count) == 1


async def test_what_is_long_is_cut_where_it_shows(
    browser: Browser, receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        """
        UPDATE sources SET labels = jsonb_build_object('instance', 'camera-station-' || id)
        WHERE id > 1;
        INSERT INTO rejected_samples
            (source_id, metric, timestamp_ms, value, reason, table_name, column_name, detail)
        SELECT 3, 'press_hydraulic_pressure_bar', i, 12.5, 'refused_by_database',
            'press_readings', 'hydraulic_pressure', 'new row violates check constraint "c"'
        FROM generate_series(1764500000000, 1764500000003) AS i
        """
    )
    async with opened(browser, viewport={"width": 1280, "height": 800}) as (page, _):
        await page.goto(receiver.url("/rejected"))
        assert await page.locator(".scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
        await page.goto(receiver.url("/board"))
        # Even where the browser's font is wide, the end tells names apart.
        ends = page.locator(".minis bdi > span:last-child")
        assert await ends.count() == SOURCES - 1
        for end in await ends.all():
            assert await end.evaluate(
                "part => part.scrollWidth <= part.clientWidth"
                " && part.getBoundingClientRect().right"
                " <= part.closest('li').getBoundingClientRect().right"
            )
    async with opened(browser, viewport={"width": 390, "height": 800}) as (page, _):
        await page.goto(receiver.url("/source?id=1"))
        places = [
            box
            for text in await page.locator(".strip.big + .axis text").all()
            if (box := await text.bounding_box())
        ]
        for one, other in pairwise(places):
            assert one["x"] + one["width"] < other["x"]
