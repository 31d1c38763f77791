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

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
MAX_REASON: Final = 200

# Unprocessable: too many samples for one query. Unavailable: it took too long.
TOO_MUCH: Final = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)

QUEUE: Final = "prometheus_remote_storage_"

RemoteWrite: TypeAlias = dict[str, Any]
"""One entry of `remote_write` in Prometheus' configuration."""

QueueMetrics: TypeAlias = dict[str, dict[str, float]]
"""Metrics about remote write: by name without prefix, and by URL ("" for what is of no queue)."""


class TooMuchAtOnceError(UnavailableError):
    """Prometheus does not give so much in one answer."""


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
            UnavailableError: it cannot be reached, or answers something else than 200.
        """
        url = self.url.rstrip("/") + path
        try:
            async with self.session.get(url, params=parameters) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            said = str(error) or "no answer in time"
            raise UnavailableError(f"Prometheus cannot be reached: {said}") from error
        if response.status in TOO_MUCH:
            raise TooMuchAtOnceError(
                f"Prometheus answers {response.status} to {path}: {reason(text)}"
            )
        if response.status != HTTPStatus.OK:
            raise UnavailableError(
                f"Prometheus answers {response.status} to {path}: {reason(text)}"
            )
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
            raise UnavailableError("what answers there is no Prometheus") from error

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
        steps. Prometheus 2 includes `begin`.

        Args:
            metric: Its name.
            begin: Milliseconds since the Unix epoch.
            end: The same.

        Raises:
            TooMuchAtOnceError: it refuses so many at once.
            UnavailableError: as `api` does.
        """
        selector = f"{{__name__={json.dumps(metric, ensure_ascii=False)}}}[{end - begin}ms]"
        data = await self.api("/query", query=selector, time=f"{end / 1000:.3f}")
        return [
            Points(
                series["metric"],
                [(round(time * 1000), float(value)) for time, value in series.get("values", ())],
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
        return yaml.safe_load(data["yaml"]) or {}

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
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(timeout=limits, headers=headers) as session:
        yield Prometheus(session, url)


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
