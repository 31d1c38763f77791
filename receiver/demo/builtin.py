"""A sender for machines without Prometheus: it scrapes, and sends by Remote-Write 1.0.

It keeps unsent samples in memory and retries, and it filters nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

import aiohttp
import snappy
from prometheus_client.parser import text_string_to_metric_families
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, wait_exponential

from receiver import __version__
from receiver.config.value_types import parse_duration
from receiver.demo.sender import Configuration, Sender
from receiver.protocol.generated.remote_write_v1_pb2 import Label, Sample, TimeSeries, WriteRequest
from receiver.security.access import bearing

logger = logging.getLogger(__name__)

HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": f"receiver-demo/{__version__}",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
SCRAPES_PER_REQUEST: Final = 100

Scrape: TypeAlias = list[TimeSeries]
"""The samples of one scrape; they are sent together, so that rows are complete."""


def builtin(configuration: Configuration) -> Sender:
    """Return a sender that scrapes and writes as configured."""
    return Sender("the built-in sender", partial(scrape_and_send, configuration))


async def scrape_and_send(configuration: Configuration) -> None:
    """Scrape and send until cancelled."""
    job = configuration["scrape_configs"][0]
    interval = cast("timedelta", parse_duration(configuration["global"]["scrape_interval"]))
    waiting: asyncio.Queue[Scrape] = asyncio.Queue()
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session, asyncio.TaskGroup() as tasks:
        for group in job["static_configs"]:
            for target in group["targets"]:
                labels = {"instance": target, **group.get("labels", {}), "job": job["job_name"]}
                tasks.create_task(scrape_regularly(session, target, labels, interval, waiting))
        tasks.create_task(send_all(session, configuration["remote_write"][0], waiting))


async def scrape_regularly(
    session: aiohttp.ClientSession,
    target: str,
    labels: dict[str, str],
    interval: timedelta,
    waiting: asyncio.Queue[Scrape],
) -> None:
    """Scrape one application until cancelled; a failed scrape is skipped."""
    due = time.monotonic()
    while True:
        try:
            waiting.put_nowait(await scrape(session, target, labels))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            logger.warning("scraping %s failed: %s", target, error)
        due = max(due + interval.total_seconds(), time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def scrape(session: aiohttp.ClientSession, target: str, labels: dict[str, str]) -> Scrape:
    """Scrape an application once.

    Raises:
        ClientError: it cannot be reached, or answers with an error.
        ValueError: the response is not in Prometheus' text format.
    """
    timestamp = time.time_ns() // 1_000_000
    async with session.get(f"http://{target}/metrics", raise_for_status=True) as response:
        text = await response.text()
    return [
        to_series({**sample.labels, **labels, "__name__": sample.name}, sample.value, timestamp)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def to_series(labels: dict[str, str], value: float, timestamp: int) -> TimeSeries:
    """Return a series of one sample, with its labels sorted as the protocol demands."""
    return TimeSeries(
        labels=[Label(name=name, value=text) for name, text in sorted(labels.items())],
        samples=[Sample(value=value, timestamp=timestamp)],
    )


async def send_all(
    session: aiohttp.ClientSession, remote: dict[str, Any], waiting: asyncio.Queue[Scrape]
) -> None:
    """Send scrapes in order until cancelled."""
    while True:
        scrapes = [await waiting.get()]
        while not waiting.empty() and len(scrapes) < SCRAPES_PER_REQUEST:
            scrapes.append(waiting.get_nowait())
        await send(session, remote, [series for scrape in scrapes for series in scrape])


async def send(
    session: aiohttp.ClientSession, remote: dict[str, Any], series: list[TimeSeries]
) -> None:
    """Send one request, and retry until it is accepted or refused with a 4xx."""
    body = snappy.compress(WriteRequest(timeseries=series).SerializeToString())
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
        wait=wait_exponential(multiplier=0.03, max=5),
        before_sleep=before_sleep_log(logger, logging.WARNING),
    ):
        with attempt:
            await post(session, remote, body)


async def post(session: aiohttp.ClientSession, remote: dict[str, Any], body: bytes) -> None:
    """Send a request once; drop it if it is refused with a 4xx.

    Raises:
        ClientError: the request should be retried.
    """
    given = remote.get("authorization")
    headers = HEADERS | bearing(given["credentials"]) if given else HEADERS
    verify = not remote.get("tls_config", {}).get("insecure_skip_verify", False)
    async with session.post(remote["url"], data=body, headers=headers, ssl=verify) as response:
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            response.raise_for_status()
        if response.status >= HTTPStatus.BAD_REQUEST:
            logger.error("the receiver refused: %d %s", response.status, await response.text())
