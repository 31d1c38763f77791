"""Requests that a browser sends for other sites are refused; legitimate senders are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from receiver.http.paths import WRITE as WRITE_PATH
from tests.conftest import MakeSettings
from tests.integration.test_authentication import GOOD, guarded
from tests.receivers import Running

BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
PROTOBUF = ("Content-Type: application/x-protobuf", "Content-Encoding: snappy")


@pytest.fixture
async def receiver(make_settings: MakeSettings) -> AsyncIterator[Running]:
    async with guarded(make_settings) as running:
        yield running


async def ask(
    receiver: Running, *headers: str, method: str = "GET", target: str = "/metrics"
) -> tuple[int, str]:
    """Send exactly these headers, ADDRESS replaced by the receiver's; return status and body."""
    address = f"127.0.0.1:{receiver.address[1]}"
    body = GOOD if method == "POST" else b""
    lines = (f"{method} {target} HTTP/1.1", *headers, f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "Connection: close", "", "")).replace("ADDRESS", address)
    reader, writer = await asyncio.open_connection(*receiver.address)
    writer.write(head.encode("latin-1") + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, text = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), text.decode()


async def write(receiver: Running, *headers: str, target: str = WRITE_PATH) -> int:
    return (await ask(receiver, *headers, method="POST", target=target))[0]


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: ADDRESS",),
        ("Host: receiver:9201",),
        ("Host: receiver",),
        ("Host: receiver_1:9201",),
        ("Host: localhost:9201",),
        ("Host: 10.0.0.5:9201",),
        ("Host: [::1]:9201",),
        ("Host: [fe80::1]",),
        # Legitimate senders where the receiver has a domain name.
        ("Host: receiver.monitoring.svc.cluster.local:9201",),
        ("Host: receiver.example.com", "User-Agent: Prometheus/3.5.0"),
        ("Host: receiver.example.com", "User-Agent: vmagent", "Accept-Encoding: gzip"),
        ("Host: receiver.example.com", "User-Agent: node", "Accept-Language: *"),
        ("Host: ",),
        # The receiver's own page, or a command-line tool.
        ("Host: ADDRESS", "Origin: http://ADDRESS", BROWSER),
        ("Host: LOCALHOST:9201", "Origin: http://localhost:9201"),
        ("Host: localhost", "Origin: https://localhost:443"),
        ("Host: ADDRESS", "Sec-Fetch-Site: same-origin", "Origin: http://ADDRESS"),
        ("Host: ADDRESS", "Sec-Fetch-Site: none"),
    ],
)
async def test_an_honest_sender_is_let_in(receiver: Running, headers: tuple[str, ...]) -> None:
    assert await write(receiver, *headers, *PROTOBUF) == 204
    assert await write(receiver, *headers) == 204


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: ADDRESS", "Origin: http://evil.example"),
        ("Host: ADDRESS", "origin: http://evil.example"),
        ("Host: ADDRESS", "ORIGIN:http://evil.example"),
        ("Host: ADDRESS", "Origin: null"),
        ("Host: ADDRESS", "Origin: "),
        ("Host: ADDRESS", "Origin: http://[x"),
        ("Host: ADDRESS", "Origin: ADDRESS"),
        ("Host: ADDRESS", "Origin: http://ADDRESS.evil.example"),
        ("Host: ADDRESS", "Origin: http://ADDRESS@evil.example"),
        ("Host: ADDRESS", "Origin: http://evil.example@ADDRESS"),
        ("Host: ADDRESS", "Origin: http://127.0.0.1:1"),
        ("Host: ADDRESS", "Origin: http://localhost"),
        ("Host: ADDRESS", "Origin: http://ADDRESS", "Origin: http://evil.example"),
        ("Host: ADDRESS", "Sec-Fetch-Site: cross-site"),
        ("Host: ADDRESS", "Sec-Fetch-Site: cross-site", "Origin: http://ADDRESS"),
        ("Host: ADDRESS", "Sec-Fetch-Site: same-site", "Origin: http://127.0.0.1:3000"),
        ("Host: ADDRESS", "Sec-Fetch-Site: Cross-Site"),
        ("Host: ADDRESS", "Sec-Fetch-Site: "),
        ("Host: ADDRESS", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
        ("Host: ADDRESS", "Sec-Fetch-Site: none", "Origin: http://evil.example"),
        ("Host: ", "Origin: null"),
        # DNS rebinding: the attacker's domain name resolves to the receiver's address.
        ("Host: evil.example:9201", "Origin: http://evil.example:9201"),
        ("Host: evil.example:9201", "Sec-Fetch-Site: same-origin"),
        ("Host: evil.example:9201", BROWSER),
        ("Host: localhost.evil.example", BROWSER),
        ("Host: evil.example.", BROWSER),
        ("Host: evil%2eexample", BROWSER),
        ("Host: 127.0.0.1.evil.example", BROWSER),
        ("Host: user@evil.example", BROWSER),
        ("Host: localhost@evil.example:80", BROWSER),
        ("Host: localhost, evil.example", BROWSER),
        ("Host: évil", BROWSER),
    ],
)
@pytest.mark.parametrize("target", [WRITE_PATH, "/api/v1/%77rite", f"{WRITE_PATH}?x=y", "/codes"])
async def test_a_page_of_another_site_cannot_write(
    receiver: Running, headers: tuple[str, ...], target: str
) -> None:
    assert await write(receiver, *headers, target=target) == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_method_that_could_change_anything_is_let_in(
    receiver: Running, method: str
) -> None:
    status, _ = await ask(receiver, "Host: ADDRESS", "Origin: http://evil.example", method=method)
    assert status == 403


async def test_a_preflight_allows_nothing(receiver: Running) -> None:
    status, text = await ask(
        receiver,
        "Host: ADDRESS",
        "Origin: http://evil.example",
        "Access-Control-Request-Method: POST",
        method="OPTIONS",
        target=WRITE_PATH,
    )
    assert status == 405
    assert "access-control" not in text.lower()


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://evil.example/api/v1/write", "ADDRESS", 403),
        ("http://localhost/api/v1/write", "evil.example", 403),
        ("http://localhost/api/v1/write", "localhost", 204),
    ],
)
async def test_a_whole_url_counts_as_the_header_does(
    receiver: Running, target: str, host: str, expected: int
) -> None:
    assert await write(receiver, f"Host: {host}", BROWSER, target=target) == expected


async def test_several_hosts_are_none(receiver: Running) -> None:
    for hosts in (("ADDRESS", "evil.example"), ("evil.example", "ADDRESS")):
        headers = [f"Host: {host}" for host in hosts]
        assert await write(receiver, *headers, BROWSER) in {400, 403}


async def test_a_credential_does_not_help_a_page(
    make_settings: MakeSettings,
) -> None:
    """A browser adds a stored password to the requests of any page."""
    async with guarded(make_settings, bearer_token="one") as receiver:
        token = ("Host: receiver.example.com", "Authorization: Bearer one")
        assert await write(receiver, *token, "Origin: http://evil.example") == 403
        # Same origin: a browser sends no stored password of ours to a name of another site.
        assert await write(receiver, *token, "Origin: http://receiver.example.com") == 204


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/logs", "/codes", "/static/page.css", "/nothing"])
@pytest.mark.parametrize("agent", ["User-Agent: curl/8", BROWSER])
async def test_pages_are_shown_under_a_known_name_only(
    receiver: Running, target: str, agent: str
) -> None:
    status, text = await ask(receiver, "Host: evil.example", agent, target=target)
    assert status == 403
    assert "'evil.example' is not a known name" in text
    assert "RECEIVER_ALLOWED_HOSTS" in text
    status, _ = await ask(receiver, "Host: localhost:9201", agent, target=target)
    assert status in {200, 404, 503}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("User-Agent: Prometheus/3.5.0", 200),
        ("Accept-Language: *", 200),
        (BROWSER, 403),
        ("Accept-Language: ko", 403),
        ("Accept-Language: ", 403),
        ("Sec-Fetch-Site: same-origin", 403),
    ],
)
async def test_metrics_are_for_programs_under_any_name(
    receiver: Running, header: str, expected: int
) -> None:
    for method in ("GET", "HEAD"):
        assert (await ask(receiver, "Host: evil.example", header, method=method))[0] == expected


async def test_health_is_for_everybody(receiver: Running) -> None:
    status, _ = await ask(receiver, "Host: evil.example", BROWSER, target="/-/healthy")
    assert status == 200


async def test_names_can_be_added(make_settings: MakeSettings) -> None:
    names = "receiver.example.com, Other.Example.com"
    async with guarded(make_settings, allowed_hosts=names) as receiver:
        for host in ("receiver.example.com", "OTHER.example.com:8443", "other.example.com."):
            assert (await ask(receiver, f"Host: {host}", BROWSER))[0] == 200
        for host in ("example.com", "x.receiver.example.com"):
            assert (await ask(receiver, f"Host: {host}", BROWSER))[0] == 403


async def test_refused_writes_are_counted(receiver: Running) -> None:
    await write(receiver, "Host: ADDRESS", "Origin: http://evil.example")
    _, text = await ask(receiver, "Host: ADDRESS")
    assert 'receiver_refused_requests_total{cause="foreign_page"} 1.0' in text
    assert 'receiver_requests_total{code="403",version="unknown"} 1.0' in text
