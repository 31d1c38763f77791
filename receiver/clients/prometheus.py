"""Reads from a Prometheus by its HTTP API and its own `/metrics`, which need no setting there."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from receiver.clients.failures import without_ssl
from receiver.clients.prometheus_model import (
    Answer,
    Anything,
    BuildInfo,
    Configuration,
    ConfigurationText,
    Matrix,
    Points,
    RefusedByPrometheusError,
    RemoteRead,
    RemoteWrite,
    Target,
    Targets,
    Vector,
    read_answer,
    read_configuration,
    reason,
    shorten,
)
from receiver.errors import UnavailableError
from receiver.security.access import bearing
from receiver.security.contexts import client_context

T = TypeVar("T")

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)

MAX_ANSWER: Final = 16 * 1024**2
"""Maximum size of a response in bytes: about 500,000 samples, which take ten times the memory."""

QUERY_TIMEOUT: Final = "30s"
"""Time that Prometheus may take for a window, before a shorter one is requested."""

# Unprocessable: too many samples for one query. Gateway timeout: a proxy gave up waiting.
TOO_MUCH: Final = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.GATEWAY_TIMEOUT)
PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

QUEUE: Final = "prometheus_remote_storage_"

QueueMetrics: TypeAlias = dict[str, dict[str, float]]
"""Metrics of remote write: by name without prefix, and by URL ("" if of no queue)."""


class TooMuchAtOnceError(UnavailableError):
    """Prometheus refuses to return so many samples in one answer."""


class Prometheus(NamedTuple):
    """A running Prometheus."""

    session: aiohttp.ClientSession
    url: str
    """The address, with the route prefix if there is one."""

    async def get(self, path: str, **parameters: str) -> str:
        """Request a path and return the text of the response.

        Raises:
            TooMuchAtOnceError: the response is too large, or took too long.
            RefusedByPrometheusError: the same request would fail again later.
            UnavailableError: Prometheus cannot be reached, or fails.
        """
        url = self.url.rstrip("/") + path
        try:
            async with self.session.get(url, params=parameters) as response:
                text = await read_text(response)
        # A ValueError is an invalid host name, or an invalid redirect.
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = shorten(without_ssl(error)) or "no answer in time"
            raise UnavailableError(f"Prometheus cannot be reached: {said}") from error
        if response.status != HTTPStatus.OK:
            raise failure(response.status, path, text)
        return text

    async def api(self, kind: type[Answer[T]], path: str, **parameters: str) -> Answer[T]:
        """Call the HTTP API and return the response.

        Raises:
            UnavailableError: as `get` does, or the response is not from Prometheus.
        """
        return read_answer(kind, await self.get(f"/api/v1{path}", **parameters))

    async def version(self) -> str:
        """Return the version, or a text that says that it is unknown.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self.api(Answer[BuildInfo], "/status/buildinfo")).data.version

    async def count_series(self, expression: str) -> int:
        """Return the number of series that an expression selects.

        Raises:
            UnavailableError: as `api` does.
        """
        answer = await self.api(Answer[Vector], "/query", query=f"count({expression})")
        return sum(int(count.value[1]) for count in answer.data.result)

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        """Return the samples of series after `begin`, up to `end`, with their own timestamps.

        A range selector returns the samples themselves, `query_range` would return values at steps.
        Prometheus 2 includes a sample at `begin`, which is dropped here.

        Args:
            selected: A selector, as `selector` returns it.
            begin: Milliseconds since the Unix epoch.
            end: Milliseconds since the Unix epoch.

        Raises:
            TooMuchAtOnceError: Prometheus refuses to return so many samples at once.
            UnavailableError: as `api` does, or only part of the samples is returned.
        """
        answer = await self.api(
            Answer[Matrix],
            "/query",
            query=f"{selected}[{end - begin}ms]",
            time=f"{end / 1000:.3f}",
            timeout=QUERY_TIMEOUT,
        )
        if answer.is_partial or answer.warnings:
            said = ", ".join(answer.warnings) or "a part of its storage does not answer"
            raise UnavailableError(f"Prometheus returns only part of the samples: {shorten(said)}")
        return [
            Points(
                series.metric,
                [
                    (timestamp, value)
                    for time, value in series.values
                    if begin < (timestamp := round(time * 1000)) <= end
                ],
            )
            for series in answer.data.result
        ]

    async def external_labels(self) -> dict[str, str]:
        """Return the labels that Prometheus adds when it sends.

        Raises:
            UnavailableError: as `api` does.
        """
        common = (await self._configuration()).common
        return (common and common.external_labels) or {}

    async def remote_writes(self) -> list[RemoteWrite]:
        """Return the configured remote writes.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self._configuration()).remote_write or []

    async def remote_reads(self) -> list[RemoteRead]:
        """Return the configured remote reads.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self._configuration()).remote_read or []

    async def warnings(self, expression: str, time: int) -> list[str]:
        """Return the warnings of a query, such as those of failed remote reads.

        Args:
            expression: The query; its result is not read.
            time: Seconds since the Unix epoch.

        Raises:
            UnavailableError: as `api` does.
        """
        answer = await self.api(Answer[Anything], "/query", query=expression, time=str(time))
        return answer.warnings

    async def _configuration(self) -> Configuration:
        answer = await self.api(Answer[ConfigurationText], "/status/config")
        return read_configuration(answer.data.yaml)

    async def targets(self) -> list[Target]:
        """Return the scrape targets.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self.api(Answer[Targets], "/targets", state="active")).data.active

    async def queue_metrics(self) -> QueueMetrics:
        """Return Prometheus' metrics of its remote writes.

        Raises:
            UnavailableError: as `get` does, or the response is not from Prometheus.
        """
        found: QueueMetrics = {}
        text = await self.get("/metrics")
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name.startswith(QUEUE) and math.isfinite(sample.value):
                        values = found.setdefault(sample.name.removeprefix(QUEUE), {})
                        values[public(sample.labels.get("url", ""))] = sample.value
        except (ValueError, KeyError, IndexError) as error:
            raise RefusedByPrometheusError("its /metrics cannot be read") from error
        return found


@asynccontextmanager
async def opened(
    url: str, limits: aiohttp.ClientTimeout = TIMEOUT, token: str | None = None
) -> AsyncIterator[Prometheus]:
    """Open a session with the Prometheus at `url`, with a bearer token if it needs one."""
    headers = bearing(token) if token else {}
    connector = aiohttp.TCPConnector(ssl=client_context())
    async with aiohttp.ClientSession(
        timeout=limits, headers=headers, connector=connector
    ) as session:
        yield Prometheus(session, url)


async def read_text(response: aiohttp.ClientResponse) -> str:
    """Read the body of a response.

    Raises:
        TooMuchAtOnceError: the body is too large.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER:
            response.close()
            raise TooMuchAtOnceError(f"Prometheus returns more than {MAX_ANSWER >> 20} MiB at once")
    return body.decode(errors="replace")


def failure(status: int, path: str, text: str) -> UnavailableError:
    """Return the error for a status other than 200: request less, retry, or give up."""
    said = f"Prometheus answers {status} to {path}: {reason(text)}"
    # A starting Prometheus answers 503 too, but with another error type.
    if status in TOO_MUCH or '"errorType":"timeout"' in text:
        return TooMuchAtOnceError(said)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in PASSING:
        return RefusedByPrometheusError(said)
    return UnavailableError(said)


def selector(metric: str, match: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a selector of a metric's series; the name may be any text.

    Args:
        metric: The name of the metric.
        match: Regular expressions that labels must match, by label.
    """
    matchers = [f"__name__={text(metric)}"]
    matchers += [f"{label}=~{text(expression)}" for label, expression in match.items()]
    return f"{{{','.join(matchers)}}}"


def text(value: str) -> str:
    """Return a string literal of PromQL."""
    return json.dumps(value, ensure_ascii=False)


def public(url: str) -> str:
    """Return a URL without its credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
