"""Asks a Prometheus, over its HTTP API and its own `/metrics`; nothing needs to be set there."""

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

from receiver.clients.prometheus_model import (
    Answer,
    BuildInfo,
    Configuration,
    ConfigurationText,
    Matrix,
    Points,
    RefusedByPrometheusError,
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
"""Bytes of an answer: some 500,000 samples, which take ten times as much memory."""

QUERY_TIMEOUT: Final = "30s"
"""How long Prometheus may work at one window, before a shorter one is asked for."""

# Unprocessable: too many samples for one query. Gateway timeout: a proxy had no patience.
TOO_MUCH: Final = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.GATEWAY_TIMEOUT)
PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

QUEUE: Final = "prometheus_remote_storage_"

QueueMetrics: TypeAlias = dict[str, dict[str, float]]
"""Metrics about remote write: by name without prefix, and by URL ("" for what is of no queue)."""


class TooMuchAtOnceError(UnavailableError):
    """Prometheus does not give so much in one answer."""


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
        # A ValueError is a host's name, or where it redirects to, that can be none.
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = shorten(str(error)) or "no answer in time"
            raise UnavailableError(f"Prometheus cannot be reached: {said}") from error
        if response.status != HTTPStatus.OK:
            raise failure(response.status, path, text)
        return text

    async def api(self, kind: type[Answer[T]], path: str, **parameters: str) -> Answer[T]:
        """The answer to a call to its API.

        Raises:
            UnavailableError: as `get` does, or what answers is no Prometheus.
        """
        return read_answer(kind, await self.get(f"/api/v1{path}", **parameters))

    async def version(self) -> str:
        """Its version, or that it does not say so.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self.api(Answer[BuildInfo], "/status/buildinfo")).data.version

    async def count_series(self, expression: str) -> int:
        """How many series an expression gives.

        Raises:
            UnavailableError: as `api` does.
        """
        answer = await self.api(Answer[Vector], "/query", query=f"count({expression})")
        return sum(int(count.value[1]) for count in answer.data.result)

    async def samples(self, selected: str, begin: int, end: int) -> list[Points]:
        """Return the samples of series after `begin`, until `end`: with their own timestamps.

        A range selector gives the samples themselves, where `query_range` would give values at
        steps. Prometheus 2 answers a sample at `begin` too, which is left out.

        Args:
            selected: What selects the series, as `selector` writes it.
            begin: Milliseconds since the Unix epoch.
            end: The same.

        Raises:
            TooMuchAtOnceError: it refuses so many at once.
            UnavailableError: as `api` does, or it answers only a part of them.
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
            raise UnavailableError(f"Prometheus does not answer all samples: {shorten(said)}")
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
        """The labels that it adds to all it sends.

        Raises:
            UnavailableError: as `api` does.
        """
        common = (await self._configuration()).common
        return (common and common.external_labels) or {}

    async def remote_writes(self) -> list[RemoteWrite]:
        """Where it is configured to send to.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self._configuration()).remote_write or []

    async def _configuration(self) -> Configuration:
        answer = await self.api(Answer[ConfigurationText], "/status/config")
        return read_configuration(answer.data.yaml)

    async def targets(self) -> list[Target]:
        """What it scrapes.

        Raises:
            UnavailableError: as `api` does.
        """
        return (await self.api(Answer[Targets], "/targets", state="active")).data.active

    async def queue_metrics(self) -> QueueMetrics:
        """Its metrics about what it sends.

        Raises:
            UnavailableError: as `get` does, or what answers is no Prometheus.
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


def selector(metric: str, match: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write what selects a metric's series, whatever its name has in it.

    Args:
        metric: The name.
        match: Regular expressions by the labels that they must match, as PromQL has them.
    """
    matchers = [f"__name__={text(metric)}"]
    matchers += [f"{label}=~{text(expression)}" for label, expression in match.items()]
    return f"{{{','.join(matchers)}}}"


def text(value: str) -> str:
    """Write a string of PromQL."""
    return json.dumps(value, ensure_ascii=False)


def public(url: str) -> str:
    """A URL without credentials, as far as it is one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
