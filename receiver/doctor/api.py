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

QUEUE: Final = "prometheus_remote_storage_"

RemoteWrite: TypeAlias = dict[str, Any]
"""One entry of `remote_write` in Prometheus' configuration."""

QueueMetrics: TypeAlias = dict[str, dict[str, float]]
"""Metrics about remote write: by name without prefix, and by URL ("" for what is of no queue)."""


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
            reason = str(error) or "no answer in time"
            raise UnavailableError(f"Prometheus cannot be reached: {reason}") from error
        if response.status != HTTPStatus.OK:
            raise UnavailableError(f"Prometheus answers {response.status} to {path}")
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

    async def remote_writes(self) -> list[RemoteWrite]:
        """Where it is configured to send to.

        Raises:
            UnavailableError: as `api` does.
        """
        data = await self.api("/status/config")
        return (yaml.safe_load(data["yaml"]) or {}).get("remote_write") or []

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
async def opened(url: str) -> AsyncIterator[Prometheus]:
    """A session with the Prometheus at `url`."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        yield Prometheus(session, url)


def public(url: str) -> str:
    """A URL without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
