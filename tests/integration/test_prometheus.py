"""Our client handles answers of Prometheus that a real one does not give on demand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from receiver.clients import prometheus
from receiver.clients.prometheus import TooMuchAtOnceError, opened
from receiver.clients.prometheus_model import Points, RefusedByPrometheusError
from receiver.errors import UnavailableError

TIMED_OUT = '{"status":"error","errorType":"timeout","error":"query timed out"}'


@asynccontextmanager
async def answering(status: int, text: str) -> AsyncIterator[prometheus.Prometheus]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, opened(str(server.make_url("/"))) as found:
        yield found


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        pytest.param(422, "too many samples", TooMuchAtOnceError, id="too many samples"),
        pytest.param(503, TIMED_OUT, TooMuchAtOnceError, id="query timed out"),
        pytest.param(504, "", TooMuchAtOnceError, id="a proxy had no patience"),
        pytest.param(503, "Service Unavailable", UnavailableError, id="starting"),
        pytest.param(500, "", UnavailableError, id="failing"),
        pytest.param(429, "", UnavailableError, id="busy"),
        pytest.param(401, "", RefusedByPrometheusError, id="no credentials"),
        pytest.param(404, "", RefusedByPrometheusError, id="nothing there"),
        pytest.param(200, "<html>", RefusedByPrometheusError, id="no Prometheus"),
    ],
)
async def test_a_failure_says_whether_to_ask_for_less_again_or_no_more(
    status: int, text: str, error: type[UnavailableError]
) -> None:
    async with answering(status, text) as found:
        with pytest.raises(UnavailableError) as raised:
            await found.samples("app_status", 0, 1000)
    assert type(raised.value) is error


async def test_no_more_is_read_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_ANSWER", 1 << 20)
    async with answering(200, " " * (1 << 20) + "{}") as found:
        with pytest.raises(TooMuchAtOnceError, match="more than 1 MiB"):
            await found.samples("app_status", 0, 1000)


async def test_a_sample_at_the_begin_belongs_to_the_window_before() -> None:
    values = '[[1.000,"0"],[1.001,"1"],[2.000,"2"]]'
    text = f'{{"data":{{"result":[{{"metric":{{"a":"b"}},"values":{values}}}]}}}}'
    async with answering(200, text) as found:
        assert await found.samples("app_status", 1000, 2000) == [
            Points({"a": "b"}, [(1001, 1.0), (2000, 2.0)])
        ]


async def test_external_labels_are_text_whatever_they_look_like() -> None:
    configuration = "global: {external_labels: {line: 007, shift: on, eq: =}}"
    text = json.dumps({"data": {"yaml": configuration}})
    async with answering(200, text) as found:
        assert await found.external_labels() == {"line": "007", "shift": "on", "eq": "="}
