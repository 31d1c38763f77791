"""The page in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
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
    async_playwright,
)

from tests.conftest import MakeSettings
from tests.pages import fill, showing
from tests.programs import require_program
from tests.receivers import Running, encode
from tests.waiting import until

PAGES = ["/", "/logs", "/rejected", "/codes"]
ELSEWHERE = "receiver.test"
"""A name of this machine that browsers take for another one, so that HTTP is not secure."""
WIDTHS = [320, 480, 768, 1024, 1280, 1920]
# Whatever can be worked by keyboard and is shown.
REACHABLE = """
[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter(part => part.checkVisibility() && part.type !== "hidden")
    .map(part => part.outerHTML)
"""
FOCUSED = """
() => {
    const part = document.activeElement, style = getComputedStyle(part);
    const drawn = part.matches(".states g") ? getComputedStyle(part.querySelector("rect")) : null;
    const seen = drawn ? drawn.stroke !== "none"
        : style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const box = part.getBoundingClientRect();
    return [part === document.body ? null : part.outerHTML, seen && box.width > 0];
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
        # Its sandbox cannot be had as root.
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
    """A page that writes down errors, and requests to anywhere but the receiver."""
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
        for path in [*PAGES, "/?after=x"]:
            await page.goto(receiver.url(path))
            assert await page.get_attribute("html", "lang") == locale[:2]
            await page.evaluate(OPEN_ALL)
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 900})
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, path
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(17, 23, 29)"}
        # The last page was asked for by a wrong address.
        assert [found for found in complaints if "400 (Bad Request)" not in found] == []


async def test_the_keyboard_reaches_everything(browser: Browser, receiver: Running) -> None:
    async with opened(browser) as (page, complaints):
        for path in PAGES:
            await page.goto(receiver.url(path))
            reachable = await page.evaluate(REACHABLE)
            assert len(reachable) > 10
            focused = set()
            for _ in range(4 * len(reachable)):
                await page.keyboard.press("Tab")
                part, seen = await page.evaluate(FOCUSED)
                if part is None:
                    break
                assert seen, part
                focused.add(part)
            assert [part for part in reachable if part not in focused] == []
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
            assert {"banner", "main", "contentinfo", "navigation", "table"} <= roles
            assert [role for role, name in nodes if role in NAMED and not name] == []
            headings = await page.evaluate(
                "[...document.querySelectorAll('h1, h2, h3')].map(part => Number(part.tagName[1]))"
            )
            assert headings[0] == 1
            assert headings.count(1) == 1
            assert all(after - before <= 1 for before, after in pairwise(headings))
            if path == "/":
                line = "instance=cam-1 job=factory: states, newest OK"
                assert ("group", line) in nodes


async def accessible(page: Page) -> list[tuple[str, str]]:
    """Role and name of all that a screen reader is told of."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    return [
        (node["role"]["value"], node["name"]["value"].strip() if "name" in node else "")
        for node in tree["nodes"]
        if not node["ignored"]
    ]


async def test_arrow_keys_go_along_a_timeline(browser: Browser, receiver: Running) -> None:
    async with opened(browser) as (page, _):
        await page.goto(receiver.url("/"))
        await page.locator(".states g[tabindex='0']").first.focus()
        told = page.locator("#pointed")
        assert "OK (0)" in await told.inner_text()
        for key, name in [
            ("ArrowLeft", "UNKNOWN_ERROR (99)"),
            ("ArrowRight", "OK (0)"),
            ("ArrowRight", "OK (0)"),
            ("Home", "OK (0)"),
            ("ArrowRight", "DB_ERROR (1)"),
        ]:
            await page.keyboard.press(key)
            assert name in await told.inner_text()
        assert "데이터베이스 연결 오류" in await told.inner_text()
        assert await page.locator(".states").first.locator("g[tabindex='0']").count() == 1
        await page.locator(".states g").nth(2).hover()
        assert "NETWORK_ERROR (2)" in await told.inner_text()


def shown_in(zone: timedelta, exact: str) -> str:
    """A time as the page writes it in a zone."""
    time = datetime.fromisoformat(exact) + zone
    return time.isoformat(" ", "milliseconds").removesuffix("+00:00")


@pytest.mark.parametrize("scripts", [True, False])
async def test_times_are_in_the_zone_of_the_browser(
    browser: Browser, receiver: Running, scripts: bool
) -> None:
    async with opened(browser, timezone_id="Asia/Seoul", java_script_enabled=scripts) as (page, _):
        await page.goto(receiver.url("/"))
        times = [
            (await time.get_attribute("datetime"), await time.inner_text())
            for time in await page.locator("#sources time").all()
        ]
        assert times
        zone = timedelta(hours=9 if scripts else 0)
        assert times == [(exact, shown_in(zone, exact or "")) for exact, _ in times]
        told = await page.locator("#zone").inner_text()
        assert told == f"Times are in {'the zone Asia/Seoul' if scripts else 'UTC'}."
        titles = await page.locator(".states title").first.text_content()
        start = await page.locator(".states g").first.get_attribute("data-start")
        assert start is not None
        assert (start in (titles or "")) is not scripts


async def test_the_page_keeps_itself_up_to_date(
    browser: Browser, receiver: Running, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    async with opened(browser) as (page, complaints):
        await page.clock.install()
        await page.goto(receiver.url("/"))
        source = page.locator("#sources tbody tr").nth(0)
        line = page.locator("#lines")

        async def now(status: int, name: str, shown: Callable[[], Any]) -> None:
            await connection.execute(
                "INSERT INTO app_logs (source_id, app_status, ocr_value) VALUES (1, $1, now())",
                status,
            )
            await page.clock.fast_forward(10_500)

            async def updated() -> bool:
                return name in await shown()

            await until(updated)

        await page.locator("#range").focus()
        await page.mouse.wheel(0, 300)
        await now(2, "NETWORK_ERROR", source.inner_text)
        assert await page.evaluate("document.activeElement.id") == "range"
        assert await page.evaluate("scrollY") > 0
        assert "Updated" in await page.locator("#updates").inner_text()

        # What has the focus stays as it is; all else does not.
        await page.locator(".states g[tabindex='0']").first.focus()
        drawn = await line.inner_html()
        await now(1, "DB_ERROR", source.inner_text)
        assert await line.inner_html() == drawn
        await page.locator("#range").focus()

        await page.route("**/*", lambda route: route.abort())
        await page.clock.fast_forward(10_500)
        await page.get_by_text("The page could not be updated").wait_for()
        await page.unroute("**/*")
        await now(99, "UNKNOWN_ERROR", source.inner_text)
        assert "could not" not in await page.locator("#updates").inner_text()

        # Nothing comes to one who has paused it.
        await page.get_by_role("button", name="Pause updates").click()
        before = len(asked := await requests(page))
        await page.clock.fast_forward(60_000)
        assert len(asked) == before
        assert [found for found in complaints if "ERR_FAILED" not in found] == []
    await connection.close()


async def requests(page: Page) -> list[str]:
    """Grows with each request from now on."""
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
            await page.clock.fast_forward(10_500)
            await page.get_by_text("Updated").wait_for()
            await page.goto(receiver.url("/codes"))
            await page.get_by_label("Change code 99").first.click()
            form = page.get_by_role("form", name="Change code 99")
            await form.get_by_label("Name").fill("LAMP_DARK")
            await form.get_by_role("button", name="Save").click()
            await page.get_by_text("Code 99 was saved.").wait_for()
            assert complaints == []


async def test_another_site_cannot_change_a_code(
    browser: Browser, receiver: Running, database_url: str
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
    connection = await asyncpg.connect(database_url)
    assert not await connection.fetchval("SELECT count(*) FROM error_codes WHERE code = 43")
    await connection.close()


WRITE = """
async ([url, body]) => await fetch(url, {
    method: "POST", mode: "no-cors", body: new Blob([Uint8Array.from(body)]),
})
"""


@pytest.fixture
async def other_port() -> AsyncIterator[int]:
    """A server of somebody else's on this machine."""

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
