"""Editing error codes on the web page: who may do it, and from which origin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from itertools import product
from typing import Any

import asyncpg
import pytest
from yarl import URL

from receiver.storage.writing.codes import statements_for
from receiver.web.forms import mask, unmask
from tests.conftest import MakeSettings
from tests.pages import MARKUP, showing
from tests.receivers import Running

FORM = {"action": "add", "code": "7", "name": "LENS_DIRTY", "description": "렌즈 오염"}
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def receiver(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with showing(make_settings(database_url=database_url), known=True) as running:
        yield running


async def find_token(receiver: Running) -> str:
    """Open the page, as a browser does before it sends the form; the session keeps the cookie."""
    # By host name, as a cookie jar keeps no cookies of IP addresses.
    async with receiver.session.get(here(receiver)) as response:
        (token, *_) = re.findall(r'name="token" value="([^"]+)"', await response.text())
    return str(token)


def here(receiver: Running) -> URL:
    return URL(receiver.url("/codes")).with_host("localhost")


async def send(
    receiver: Running, form: Mapping[str, str], headers: Mapping[str, str] = SAME
) -> tuple[int, str, str]:
    """Send the form; return the status, the redirect target, and the text."""
    async with receiver.session.post(
        here(receiver), data=form, headers=headers, allow_redirects=False
    ) as response:
        return response.status, response.headers.get("Location", ""), await response.text()


async def code(connection: asyncpg.Connection, number: int) -> tuple[Any, ...] | None:
    row = await connection.fetchrow(
        "SELECT name, description FROM error_codes WHERE code = $1", number
    )
    return row and tuple(row)


async def test_a_code_is_added_and_renamed(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    token = await find_token(receiver)
    status, location, _ = await send(receiver, {**FORM, "token": token})
    assert (status, location) == (303, "codes?saved=7")
    assert await code(connection, 7) == ("LENS_DIRTY", "렌즈 오염")
    renamed = {**FORM, "token": token, "action": "rename", "name": MARKUP, "description": ""}
    assert (await send(receiver, renamed))[0] == 303
    assert await code(connection, 7) == (MARKUP, "")
    async with receiver.session.get(here(receiver) % {"saved": "7"}) as response:
        page = await response.text()
    assert "Code 7 was saved." in page
    assert MARKUP not in page


async def test_a_name_that_another_code_has_is_taken_with_a_warning(receiver: Running) -> None:
    form = {**FORM, "token": await find_token(receiver), "name": "network_error"}
    status, location, _ = await send(receiver, form)
    assert (status, location) == (303, "codes?saved=7&namesake=2")
    async with receiver.session.get(here(receiver) % {"saved": "7", "namesake": "2"}) as response:
        assert "Code 2 has the same name." in await response.text()


async def test_our_own_descriptions_are_in_the_language_of_the_reader(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await connection.execute(statements_for("error_codes", "app_status").add, [7])
    for language, shown in (
        ("ko", "등록되기 전에 app_status에서 나타남"),
        ("en", "Seen in app_status before it was registered"),
    ):
        async with receiver.session.get(here(receiver) % {"lang": language}) as response:
            page = await response.text()
        assert shown in page
        # Once the form is saved, the description is the user's own.
        assert f'value="{shown}"' not in page


async def test_without_a_credential_nothing_can_be_changed(
    database_url: str, make_settings: MakeSettings, connection: asyncpg.Connection
) -> None:
    async with showing(make_settings(database_url=database_url)) as receiver:
        async with receiver.session.get(here(receiver)) as response:
            page = await response.text()
        assert 'method="post"' not in page
        assert "Set-Cookie" not in response.headers
        cookie = {"Cookie": "receiver_form=abc"}
        status, _, text = await send(receiver, {**FORM, "token": "abc"}, {**SAME, **cookie})
    assert status == 403
    assert "RECEIVER_CREDENTIALS_FILE" in text
    assert await code(connection, 7) is None


def origin(receiver: Running) -> str:
    return str(here(receiver).origin())


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        pytest.param({"Sec-Fetch-Site": "same-origin"}, True, id="same origin"),
        pytest.param({"Origin": "ORIGIN"}, True, id="origin alone"),
        pytest.param({}, False, id="nothing said"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": "ORIGIN"}, False, id="cross site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, False, id="same site"),
        pytest.param({"Sec-Fetch-Site": "none"}, False, id="none"),
        pytest.param({"Origin": "http://evil.example"}, False, id="other origin"),
        pytest.param({"Origin": "ORIGIN.evil.example"}, False, id="origin as a beginning"),
        pytest.param({"Origin": "null"}, False, id="null"),
        pytest.param({"Origin": "http://[x"}, False, id="no origin at all"),
    ],
)
async def test_only_a_form_of_this_page_changes_anything(
    receiver: Running, connection: asyncpg.Connection, headers: dict[str, str], allowed: bool
) -> None:
    given = {name: text.replace("ORIGIN", origin(receiver)) for name, text in headers.items()}
    status, _, _ = await send(receiver, {**FORM, "token": await find_token(receiver)}, given)
    assert status == (303 if allowed else 403)
    assert (await code(connection, 7) is not None) == allowed


@pytest.mark.parametrize("token", ["", "x", "é", None])
async def test_a_wrong_token_changes_nothing(
    receiver: Running, connection: asyncpg.Connection, token: str | None
) -> None:
    await find_token(receiver)
    form = FORM if token is None else {**FORM, "token": token}
    assert (await send(receiver, form))[0] == 403
    # The same without the cookie.
    receiver.session.cookie_jar.clear()
    assert (await send(receiver, form))[0] == 403
    assert await code(connection, 7) is None


async def test_without_the_cookie_no_token_is_right(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    cookies = (None, "", "receiver_form", "receiver_form=", "other=x")
    for cookie, token in product(cookies, ("", " ", "x", None)):
        headers = SAME if cookie is None else {**SAME, "Cookie": cookie}
        form = FORM if token is None else {**FORM, "token": token}
        assert (await send(receiver, form, headers))[0] == 403, (cookie, token)
    assert await code(connection, 7) is None


@pytest.mark.parametrize("secret", ["x", "x" * 4000, "\udcff"])
async def test_a_cookie_that_this_page_has_not_made_is_replaced(
    receiver: Running, secret: str
) -> None:
    header = b"Cookie: receiver_form=" + secret.encode(errors="surrogateescape")
    content = b"GET /codes HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection(*receiver.address)
    writer.write(content + header + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert re.search(rb"Set-Cookie: receiver_form=[\w-]{43};", answer)


async def test_a_token_looks_different_each_time(receiver: Running) -> None:
    tokens = {await find_token(receiver) for _ in range(3)}
    assert len(tokens) == 3
    assert len({unmask(token) for token in tokens}) == 1


async def test_a_code_is_given_a_meaning(receiver: Running, connection: asyncpg.Connection) -> None:
    token = await find_token(receiver)
    classes = "SELECT code, class FROM code_classes WHERE code_table = 'error_codes'"
    await send(receiver, {**FORM, "token": token, "class": "planned"})
    assert [tuple(row) for row in await connection.fetch(classes)] == [(7, "planned")]
    # A form without the field leaves it as it is.
    await send(receiver, {**FORM, "token": token, "action": "rename"})
    assert len(await connection.fetch(classes)) == 1
    await send(receiver, {**FORM, "token": token, "action": "rename", "class": ""})
    assert await connection.fetch(classes) == []


async def test_the_cookie_is_for_this_page_alone(receiver: Running) -> None:
    async with receiver.session.get(here(receiver)) as response:
        cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


WRONG: list[tuple[dict[str, str], int, str]] = [
    ({"code": "0"}, 409, "Code 0 exists already"),
    ({"action": "rename"}, 409, "There is no code 7."),
    ({"action": "delete"}, 400, "action must be one of add, rename."),
    ({"code": ""}, 400, "“Code” must be a whole number"),
    ({"code": "1.5"}, 400, "“Code” must be a whole number"),
    ({"code": "2147483648"}, 400, "“Code” must be a whole number"),
    ({"name": " "}, 400, "“Name” must not be empty"),
    ({"name": "a\nb"}, 400, "“Name” must not be empty"),
    ({"name": "a\0b"}, 400, "“Name” must not be empty"),
    ({"name": "x" * 501}, 400, "“Name” must not be empty"),
    ({"description": "x" * 501}, 400, "“Description” must be one line"),
    ({"description": "x" * 20_000}, 413, "The form is too large"),
]


async def test_a_wrong_form_is_told(receiver: Running, connection: asyncpg.Connection) -> None:
    token = await find_token(receiver)
    for change, status, message in WRONG:
        found, _, text = await send(receiver, {**FORM, "token": token, **change})
        assert (found, message in text) == (status, True), change
    assert await code(connection, 7) is None
    assert await code(connection, 0) == ("OK", "정상 상태")


async def test_what_is_no_form_is_told(receiver: Running) -> None:
    await find_token(receiver)
    for body in (b"\xff\xfe", b"token=%ff", b"&".join([b"a=1"] * 30), b"{}"):
        async with receiver.session.post(here(receiver), data=body, headers=SAME) as response:
            assert response.status in {400, 403}
            assert "<h1>" in await response.text()


async def test_without_a_database_a_change_is_refused(make_settings: MakeSettings) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with showing(settings, known=True) as receiver:
        cookie = {"Cookie": f"receiver_form={'a' * 43}"}
        form = {**FORM, "token": mask("a" * 43) or ""}
        assert (await send(receiver, form, {**SAME, **cookie}))[0] == 503
