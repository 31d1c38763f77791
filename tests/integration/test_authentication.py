"""Authentication over HTTP: every route, every kind of credential, and the refusals.

No database is needed: requests without kept series are answered without one.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest
import yaml
from aiohttp import web

from receiver.http.paths import WRITE as WRITE_PATH
from receiver.process.app import build_app
from receiver.process.serve import warn_if_unauthenticated
from receiver.security.identity import IDENTITY
from tests.conftest import MakeSettings
from tests.messages import NOW, compressed, series
from tests.reading import read, request
from tests.receivers import Running, receiving
from tests.waiting import until

GOOD = compressed(series({"__name__": "up"}, (1.0, NOW)))
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"
ROUNDS = 4  # bcrypt's minimum: tests need no strength


def write_credentials(
    file: Path, users: Iterable[tuple[str, str]] = (), tokens: Iterable[str] = ()
) -> Path:
    salt = bcrypt.gensalt(ROUNDS)
    hashes = {name: bcrypt.hashpw(word.encode(), salt).decode() for name, word in users}
    digests = [sha256(token.encode()).hexdigest() for token in tokens]
    file.write_text(yaml.safe_dump({"basic_auth_users": hashes, "bearer_tokens": digests}))
    return file


def limit(file: Path, may: str) -> None:
    """Limit a user and a token of the file to one permission."""
    digest = sha256(b"new-token").hexdigest()
    file.write_text(f"{file.read_text()}may: {{prometheus: {may}, {digest}: {may}}}\n")


@asynccontextmanager
async def guarded(make_settings: MakeSettings, **settings: object) -> AsyncIterator[Running]:
    async with receiving(
        make_settings(database_url=NO_DATABASE, **settings), wait=False
    ) as running:
        yield running


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    users = [("prometheus", "right"), ("이름", "비밀번호"), ("empty colon", "a:b")]
    return write_credentials(tmp_path / "credentials.yml", users, ["old-token", "new-token"])


@pytest.fixture
async def receiver(make_settings: MakeSettings, credentials: Path) -> AsyncIterator[Running]:
    async with guarded(
        make_settings, credentials_file=credentials, bearer_token="one\ntwo"
    ) as running:
        yield running


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def status(receiver: Running, authorization: str) -> int:
    return (await receiver.post(GOOD, Authorization=authorization))[0]


# --- authenticated routes -------------------------------------------------------------------------


def routes(make_settings: MakeSettings) -> set[tuple[str, str]]:
    """Return the method and path of every route of the application."""
    app = build_app(make_settings(database_url=NO_DATABASE))
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }


async def test_every_route_but_health_is_refused_without_credentials(
    make_settings: MakeSettings, receiver: Running
) -> None:
    known = routes(make_settings)
    assert {("POST", WRITE_PATH), ("GET", "/metrics"), ("GET", "/-/ready")} <= known
    for method, path in known:
        async with receiver.session.request(
            method, receiver.url(path.replace("{", "").replace("}", ""))
        ) as answer:
            expected = {200, 503} if path in {"/-/healthy", "/-/ready"} else {401}
            assert answer.status in expected, (method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", WRITE_PATH),
        ("DELETE", "/metrics"),
        ("OPTIONS", WRITE_PATH),
        ("POST", "/-/healthy"),
        ("GET", "/-/healthy/"),
        ("GET", "/-/healthy/../../metrics"),
        ("GET", "/-/%2e%2e/metrics"),
        ("GET", "//-/healthy"),
        ("GET", "/metrics?/-/healthy"),
    ],
)
async def test_nothing_else_is_told_either(receiver: Running, method: str, path: str) -> None:
    reader, writer = await asyncio.open_connection(*receiver.address)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_several_credentials_at_once_are_none(receiver: Running) -> None:
    """Otherwise the receiver and a proxy might each use a different one."""
    for pair in (("Bearer one", "Bearer one"), ("Bearer x", "Bearer one"), ("Bearer one", "x")):
        headers = [("Authorization", text) for text in pair]
        async with receiver.session.get(receiver.url("/metrics"), headers=headers) as answer:
            assert answer.status == 401


async def test_without_credentials_set_everybody_is_let_in(make_settings: MakeSettings) -> None:
    async with guarded(make_settings) as receiver:
        assert await status(receiver, "Bearer whatever") == 204
        assert (await receiver.post(GOOD))[0] == 204


# --- accepted credentials -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("may", "write_status", "read_status", "page_status"),
    [(None, 204, 503, 503), ("read", 403, 503, 503), ("write", 204, 403, 403)],
)
async def test_a_credential_may_be_for_one_thing_only(
    make_settings: MakeSettings,
    credentials: Path,
    may: str | None,
    write_status: int,
    read_status: int,
    page_status: int,
) -> None:
    if may is not None:
        limit(credentials, may)
    async with guarded(make_settings, credentials_file=credentials) as receiver:
        for authorization in (basic("prometheus", "right"), "Bearer new-token"):
            assert await status(receiver, authorization) == write_status
            answer = await read(receiver, request(), Authorization=authorization)
            # A reader gets the answer that there is no database.
            assert answer.status == read_status
            for path, expected in (("/", page_status), ("/metrics", 200)):
                async with receiver.session.get(
                    receiver.url(path), headers={"Authorization": authorization}
                ) as page:
                    assert page.status == expected
        assert await status(receiver, "Bearer old-token") == 204


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Bearer one", 204),
        ("bearer two", 204),
        ("BEARER  old-token", 204),
        ("Bearer new-token", 204),
        (basic("prometheus", "right"), 204),
        (basic("이름", "비밀번호"), 204),
        (basic("empty colon", "a:b"), 204),
        ("", 401),
        ("Bearer", 401),
        ("Bearer three", 401),
        ("Bearer one two", 401),
        ("Bearer one\tx", 401),
        ("Bearer ONE", 401),
        ("Bearer " + sha256(b"old-token").hexdigest(), 401),
        ("Token one", 401),
        ("one", 401),
        (basic("prometheus", "wrong"), 401),
        (basic("prometheus", ""), 401),
        (basic("prometheus", "right" + "x" * 100), 401),
        (basic("prometheus", "right\0"), 401),
        (basic("Prometheus", "right"), 401),
        (basic("nobody", "right"), 401),
        (basic("nobody", "a:b"), 401),
        (basic("", ""), 401),
        (basic("이름", "right"), 401),
        ("Basic", 401),
        ("Basic cHJvbWV0aGV1cw==", 401),
        ("Basic no base64!", 401),
        ("Basic ÿÿÿÿ", 401),
        ("Digest " + basic("prometheus", "right"), 401),
    ],
)
async def test_credentials(receiver: Running, authorization: str, expected: int) -> None:
    for _ in range(2):  # what is remembered, too
        assert await status(receiver, authorization) == expected


async def test_every_refusal_is_the_same(receiver: Running) -> None:
    answers = set()
    for authorization in (
        "",
        "Bearer x",
        basic("prometheus", "x"),
        basic("nobody", "x"),
        "Basic =",
    ):
        async with receiver.session.get(
            receiver.url("/metrics"),
            headers={"Authorization": authorization, "X-Request-ID": "same"},
        ) as answer:
            told = [(name, text) for name, text in answer.headers.items() if name != "Date"]
            answers.add((answer.status, await answer.text(), tuple(told)))
    ((code, text, all_told),) = answers
    assert code == 401
    assert text.startswith("This receiver needs valid credentials.")
    challenges = {value for name, value in all_told if name == "WWW-Authenticate"}
    assert challenges == {'Basic realm="receiver"', 'Bearer realm="receiver"'}


@pytest.mark.parametrize(
    ("settings", "challenge"),
    [({"bearer_token": "one"}, "Bearer"), ({"credentials_file": "users.yml"}, "Basic")],
)
async def test_only_what_would_help_is_asked_for(
    make_settings: MakeSettings, tmp_path: Path, settings: dict[str, str], challenge: str
) -> None:
    write_credentials(tmp_path / "users.yml", [("a", "b")])
    async with (
        guarded(make_settings, **settings) as receiver,
        receiver.session.get(receiver.url("/metrics")) as answer,
    ):
        assert answer.headers.getall("WWW-Authenticate") == [f'{challenge} realm="receiver"']
        assert await status(receiver, basic("x", "one")) == 401


@pytest.mark.parametrize(
    ("settings", "helped"),
    [({"bearer_token": "one"}, True), ({"credentials_file": "users.yml"}, False)],
)
async def test_a_browser_is_told_how_to_get_in_where_only_tokens_are_set(
    make_settings: MakeSettings, tmp_path: Path, settings: dict[str, str], helped: bool
) -> None:
    write_credentials(tmp_path / "users.yml", [("a", "b")])
    async with guarded(make_settings, **settings) as receiver:
        status, text = await receiver.get("/")
        assert status == 401
        assert ("receiver credential user NAME --append" in text) is helped
        # Prometheus logs the text of the answer.
        status, text = await receiver.post(GOOD)
        assert status == 401
        assert "browser" not in text


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [("Bearer one", "token"), (basic("이름", "비밀번호"), "이름"), ("Bearer x", None)],
)
async def test_handlers_are_told_who_asks(
    make_settings: MakeSettings, credentials: Path, authorization: str, expected: str | None
) -> None:
    asked: list[str | None] = []

    async def record(request: web.Request, _: bytes) -> None:
        asked.append(request.get(IDENTITY))

    settings = make_settings(
        database_url=NO_DATABASE, credentials_file=credentials, bearer_token="one"
    )
    async with receiving(settings, wait=False, record=record) as receiver:
        await status(receiver, authorization)
    assert asked == ([] if expected is None else [expected])


# --- cost of a refused request --------------------------------------------------------------------


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
async def test_the_body_is_not_waited_for(receiver: Running, expect: str) -> None:
    reader, writer = await asyncio.open_connection(*receiver.address)
    length = 10 * 2**20
    head = f"POST {WRITE_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{expect}\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(2):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    assert await status(receiver, "Bearer one") == 204


async def test_a_flood_of_wrong_passwords_is_in_nobodys_way(receiver: Running) -> None:
    known = basic("prometheus", "right")
    assert await status(receiver, known) == 204
    flood = [
        asyncio.create_task(status(receiver, basic("prometheus", str(number))))
        for number in range(200)
    ]
    slowest = 0.0
    while not all(task.done() for task in flood):
        started = time.perf_counter()
        assert await status(receiver, known) == 204
        slowest = max(slowest, time.perf_counter() - started)
    assert {task.result() for task in flood} <= {401, 503}
    assert slowest < 2


async def test_a_right_password_gets_in_during_a_flood(receiver: Running) -> None:
    """From the same address, under the same name, and for the first time."""
    flood = [
        asyncio.create_task(status(receiver, basic("prometheus", str(number))))
        for number in range(50)
    ]
    await asyncio.sleep(0)
    assert await status(receiver, basic("prometheus", "right")) == 204
    assert {await task for task in flood} == {401}


# --- rotation -------------------------------------------------------------------------------------


async def test_credentials_are_replaced_without_a_restart(
    receiver: Running, credentials: Path
) -> None:
    async def turned() -> bool:
        return await status(receiver, "Bearer old-token") == 401

    assert await status(receiver, basic("prometheus", "right")) == 204
    write_credentials(credentials, [("prometheus", "other")], ["new-token"])
    await until(turned)
    assert await status(receiver, "Bearer new-token") == 204
    assert await status(receiver, "Bearer one") == 204  # of the settings
    assert await status(receiver, basic("prometheus", "right")) == 401  # remembered or not
    assert await status(receiver, basic("prometheus", "other")) == 204


async def test_a_token_that_is_appended_locks_nobody_out(
    receiver: Running, credentials: Path
) -> None:
    text = await asyncio.to_thread(credentials.read_text)
    more = f"bearer_tokens:\n- {sha256(b'third').hexdigest()}\n"
    await asyncio.to_thread(credentials.write_text, text + more)

    async def known() -> bool:
        return await status(receiver, "Bearer third") == 204

    await until(known)
    assert await status(receiver, "Bearer old-token") == 204
    assert await status(receiver, basic("prometheus", "right")) == 204


DUPLICATE = "basic_auth_users:\n  a: hunter2\nbasic_auth_users:\n  a: hunter2\n"


@pytest.mark.parametrize("content", ["", "nonsense: [", "bearer_tokens: [hunter2]", DUPLICATE])
async def test_a_broken_file_leaves_the_credentials_as_they_were(
    receiver: Running, credentials: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    await asyncio.to_thread(credentials.write_text, content)
    await until(lambda: "stay in use" in caplog.text)
    assert f"RECEIVER_CREDENTIALS_FILE={credentials}" in caplog.text
    assert "hunter2" not in caplog.text
    assert await status(receiver, "Bearer old-token") == 204
    assert await status(receiver, "") == 401


# --- content of answers and logs ------------------------------------------------------------------


async def test_every_answer_has_the_security_headers(receiver: Running) -> None:
    for path in ("/-/healthy", "/-/ready", "/metrics", "/nothing", WRITE_PATH):
        for headers in ({}, {"Authorization": "Bearer one"}):
            async with receiver.session.get(receiver.url(path), headers=headers) as answer:
                told = answer.headers
                assert told["X-Content-Type-Options"] == "nosniff"
                assert told["Content-Security-Policy"].startswith("default-src 'none'")
                assert told["Referrer-Policy"] == "no-referrer"
                assert told["Server"] == "receiver"


async def test_what_is_no_http_is_not_told_versions_either(receiver: Running) -> None:
    reader, writer = await asyncio.open_connection(*receiver.address)
    writer.write(b"nonsense\r\n\r\n")
    answer = await reader.read(4096)
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"ython" not in answer
    writer.close()


async def test_nothing_secret_is_told(receiver: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    words = ["one", "wrong-token", "right", "wrong-password"]
    given = ["Bearer one", "Bearer wrong-token"]
    given += [basic("prometheus", "right"), basic("prometheus", "wrong-password")]
    for authorization in given:
        await status(receiver, authorization)
    async with receiver.session.get(
        receiver.url("/metrics"), headers={"Authorization": "Bearer two"}
    ) as answer:
        told = caplog.text + await answer.text()
    assert answer.status == 200
    assert 'receiver_refused_requests_total{cause="unauthorized"} 2.0' in told
    assert 'receiver_requests_total{code="401",version="unknown"} 2.0' in told
    assert not [word for word in words[1:] if word in told]
    # The word alone may occur in our own texts.
    assert not [text for text in given if text in told]
    assert not [text for text in given[2:] if text.split()[1] in told]


@pytest.mark.parametrize(
    ("listen", "token", "warned"),
    [
        ("0.0.0.0:0", None, True),
        ("0.0.0.0:0", "one", False),
        ("127.0.0.1:0", None, False),
    ],
)
def test_missing_authentication_is_logged(
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    listen: str,
    token: str | None,
    warned: bool,
) -> None:
    warn_if_unauthenticated(make_settings(listen=listen, bearer_token=token))
    assert ("ANYONE WHO REACHES THIS ADDRESS" in caplog.text) is warned


@pytest.mark.parametrize(("may", "forms"), [(None, True), ("read", False)])
async def test_the_page_offers_a_reader_no_forms(
    make_settings: MakeSettings, database_url: str, credentials: Path, may: str | None, forms: bool
) -> None:
    if may is not None:
        limit(credentials, may)
    settings = make_settings(database_url=database_url, credentials_file=credentials)
    headers = {"Authorization": basic("prometheus", "right")}
    async with receiving(settings) as receiver:
        for path in ("/codes", "/calendar"):
            async with receiver.session.get(receiver.url(path), headers=headers) as answer:
                text = await answer.text()
                assert ('method="post"' in text) is forms
                assert ("You may only read here" in text) is not forms


async def test_the_page_may_edit_for_whoever_has_shown_a_credential(
    make_settings: MakeSettings, database_url: str
) -> None:
    async with receiving(make_settings(database_url=database_url, bearer_token="one")) as receiver:
        headers = {"Authorization": "Bearer one"}
        async with receiver.session.get(receiver.url("/codes"), headers=headers) as answer:
            assert answer.status == 200
            assert 'method="post"' in await answer.text()
    async with receiving(make_settings(database_url=database_url)) as receiver:
        status, text = await receiver.get("/codes")
        assert status == 200
        assert 'method="post"' not in text
