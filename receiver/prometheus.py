"""Asks a Prometheus, over its HTTP API and its own `/metrics`; nothing needs to be set there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from receiver.errors import UnavailableError
from receiver.security.access import bearing
from receiver.security.contexts import client_context

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
MAX_REASON: Final = 200

MAX_ANSWER: Final = 16 * 1024**2
"""Bytes of an answer: some 500,000 samples, which take ten times as much memory."""

QUERY_TIMEOUT: Final = "30s"
"""How long Prometheus may work at one window, before a shorter one is asked for."""

# Unprocessable: too many samples for one query. Gateway timeout: a proxy had no patience.
TOO_MUCH: Final = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.GATEWAY_TIMEOUT)
PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

QUEUE: Final = "prometheus_remote_storage_"

RemoteWrite: TypeAlias = dict[str, Any]
"""One entry of `remote_write` in Prometheus' configuration."""

QueueMetrics: TypeAlias = dict[str, dict[str, float]]
"""Metrics about remote write: by name without prefix, and by URL ("" for what is of no queue)."""


class TooMuchAtOnceError(UnavailableError):
    """Prometheus does not give so much in one answer."""


class RefusedByPrometheusError(UnavailableError):
    """Prometheus refuses the request, however often it is sent."""


class Points(NamedTuple):
    """A series and its samples."""

    labels: dict[str, str]
    values: list[tuple[int, float]]
    """Timestamps in milliseconds since the Unix epoch, and values."""


class Prometheus(NamedTuple):
    """A running Prometheus."""

    session: aiohttp.ClientSession
    url: str
    """Where it is, with its route prefix if it has one."""

    async def get(self, path: str, **parameters: str) -> str:
        """The text it answers.

        Raises:
            TooMuchAtOnceError: the answer is too large, or took it too long.
            RefusedByPrometheusError: the same request will not do later either.
            UnavailableError: it cannot be reached, or fails.
        """
        url = self.url.rstrip("/") + path
        try:
            async with self.session.get(url, params=parameters) as response:
                text = await read_text(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            said = str(error) or "no answer in time"
            raise UnavailableError(f"Prometheus cannot be reached: {said}") from error
        if response.status != HTTPStatus.OK:
            raise failure(response.status, path, text)
        return text

    async def api(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  as the call has it
        """The data of a call to its API.

        Raises:
            UnavailableError: as `get` does, or what answers is no Prometheus.
        """
        text = await self.get(f"/api/v1{path}", **parameters)
        try:
            return json.loads(text)["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedByPrometheusError("what answers there is no Prometheus") from error

    async def count_series(self, expression: str) -> int:
        """How many series an expression gives.

        Raises:
            UnavailableError: as `api` does.
        """
        data = await self.api("/query", query=f"count({expression})")
        return int(data["result"][0]["value"][1]) if data["result"] else 0

    async def samples(self, metric: str, begin: int, end: int) -> list[Points]:
        """The samples of a metric's series after `begin`, until `end`: with their own timestamps.

        A range selector gives the samples themselves, where `query_range` would give values at
        steps. Prometheus 2 answers a sample at `begin` too, which is left out.

        Args:
            metric: Its name.
            begin: Milliseconds since the Unix epoch.
            end: The same.

        Raises:
            TooMuchAtOnceError: it refuses so many at once.
            UnavailableError: as `api` does.
        """
        selector = f"{{__name__={json.dumps(metric, ensure_ascii=False)}}}[{end - begin}ms]"
        data = await self.api(
            "/query", query=selector, time=f"{end / 1000:.3f}", timeout=QUERY_TIMEOUT
        )
        return [
            Points(
                series["metric"],
                [
                    (timestamp, float(value))
                    for time, value in series.get("values", ())
                    if (timestamp := round(time * 1000)) > begin
                ],
            )
            for series in data["result"]
        ]

    async def external_labels(self) -> dict[str, str]:
        """The labels that it adds to all it sends.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self._configuration()).get("global", {}).get("external_labels") or {}

    async def remote_writes(self) -> list[RemoteWrite]:
        """Where it is configured to send to.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self._configuration()).get("remote_write") or []

    async def _configuration(self) -> dict[str, Any]:
        data = await self.api("/status/config")
        # Every scalar as the text it is: YAML 1.1 would take some for other things, such as `=`.
        return yaml.load(data["yaml"], Loader=yaml.BaseLoader) or {}  # noqa: S506  makes only text

    async def queue_metrics(self) -> QueueMetrics:
        """Its metrics about what it sends.

        Raises:
            UnavailableError: as `get` does.
        """
        found: QueueMetrics = {}
        for family in text_string_to_metric_families(await self.get("/metrics")):
            for sample in family.samples:
                if sample.name.startswith(QUEUE):
                    values = found.setdefault(sample.name.removeprefix(QUEUE), {})
                    values[public(sample.labels.get("url", ""))] = sample.value
        return found


@asynccontextmanager
async def opened(
    url: str, limits: aiohttp.ClientTimeout = TIMEOUT, token: str | None = None
) -> AsyncIterator[Prometheus]:
    """A session with the Prometheus at `url`, with a bearer token if it wants one."""
    headers = bearing(token) if token else {}
    connector = aiohttp.TCPConnector(ssl=client_context())
    async with aiohttp.ClientSession(
        timeout=limits, headers=headers, connector=connector
    ) as session:
        yield Prometheus(session, url)


async def read_text(response: aiohttp.ClientResponse) -> str:
    """The body of an answer.

    Raises:
        TooMuchAtOnceError: it is too large for memory.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER:
            response.close()
            raise TooMuchAtOnceError(f"Prometheus answers more than {MAX_ANSWER >> 20} MiB at once")
    return body.decode(errors="replace")


def failure(status: int, path: str, text: str) -> UnavailableError:
    """What an answer other than 200 means: to ask for less, again, or no more."""
    said = f"Prometheus answers {status} to {path}: {reason(text)}"
    # A Prometheus that starts answers 503 too, but not of this type.
    if status in TOO_MUCH or '"errorType":"timeout"' in text:
        return TooMuchAtOnceError(said)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in PASSING:
        return RefusedByPrometheusError(said)
    return UnavailableError(said)


def reason(text: str) -> str:
    """What an answer says of its failure, in short."""
    try:
        said = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        said = text
    return " ".join(str(said).split())[:MAX_REASON]


def public(url: str) -> str:
    """A URL without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
