"""Alerts reach their recipients, with the stack's own rules and configuration."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.conftest import MakeSettings
from tests.end_to_end.test_prometheus import Application, exposing, prometheus
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import receiving
from tests.unit.test_alertmanager import chosen
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules"
NO_DATABASE = "postgresql://receiver@127.0.0.1:1/receiver"
NOT_SENT_AT_THE_END = "--storage.remote.flush-deadline=1s"
ONE_SHARD = {"min_shards": 1, "max_shards": 1}
"""With more, Prometheus would change their number and lose what it cannot flush within a second."""
SHORTER = {
    "group_wait: 10s": "group_wait: 1s",
    "group_wait: 30s": "group_wait: 5s",
    "group_interval: 1m": "group_interval: 1s",
}
FOLLOWING = ("RemoteWriteFailing", "ReceiverErrorBudgetBurnsFast")
Notification = dict[str, Any]


@asynccontextmanager
async def notified() -> AsyncIterator[tuple[str, list[Notification]]]:
    """Serve a webhook; yield its URL, and the list of received notifications."""
    came: list[Notification] = []

    async def take(request: web.Request) -> web.Response:
        came.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    try:
        yield f"http://{host}:{port}/", came
    finally:
        await runner.cleanup()


@asynccontextmanager
async def alertmanager(directory: Path, webhook: str) -> AsyncIterator[str]:
    """Run Alertmanager as the stack does, with a webhook and shorter waits; yield its address."""
    text = re.sub(r"\burl_file: .*", f"url: {webhook}", chosen("webhook"))
    for usual, shorter in SHORTER.items():
        assert usual in text
        text = text.replace(usual, shorter)
    (directory / "alertmanager.yml").write_text(text)
    address = f"127.0.0.1:{free_port()}"
    with (directory / "alertmanager.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            require_program("prometheus-alertmanager"),
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
            stdout=log,
            stderr=log,
        )
        try:
            yield address
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def copy_rules(directory: Path) -> None:
    """Copy the rules, with seconds in place of the minutes that alerts wait before they fire."""
    shutil.copytree(RULES, directory / "rules")
    for path in (directory / "rules").iterdir():
        path.write_text(re.sub(r"^( +for: \d+)m\b", r"\1s", path.read_text(), flags=re.MULTILINE))


def scrape(job: str, *targets: str) -> dict[str, Any]:
    return {"job_name": job, "static_configs": [{"targets": list(targets)}]}


async def test_an_alert_fires_and_is_sent_without_what_follows_from_it(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    copy_rules(tmp_path)
    own = free_port()
    async with AsyncExitStack() as stack:
        url, came = await stack.enter_async_context(notified())
        manager = await stack.enter_async_context(alertmanager(tmp_path, url))
        target = await stack.enter_async_context(exposing(Application().expose))
        receivers = [
            await stack.enter_async_context(
                receiving(make_settings(database_url=NO_DATABASE), wait=False)
            )
            for _ in range(2)
        ]
        addresses = {f"{receiver.address[0]}:{receiver.address[1]}" for receiver in receivers}
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules/*.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
            "scrape_configs": [
                scrape("application", target),
                scrape("receiver", *addresses),
                scrape("prometheus", f"127.0.0.1:{own}"),
                scrape("alertmanager", manager),
            ],
            "remote_write": [
                {"name": "receiver", "url": receivers[0].url(), "queue_config": ONE_SHARD}
            ],
        }
        await stack.enter_async_context(
            prometheus(tmp_path, yaml.safe_dump(configuration), own, [NOT_SENT_AT_THE_END])
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def is_held_back() -> bool:
            """Return whether Alertmanager has the dependent alerts, and inhibits them."""
            async with session.get(f"http://{manager}/api/v2/alerts") as answer:
                alerts = await answer.json()
            found = {one["labels"]["alertname"]: one["status"]["state"] for one in alerts}
            return all(found.get(name) == "suppressed" for name in FOLLOWING)

        def both_came_at_once() -> bool:
            return any(
                names(one) >= {("ReceiverDatabaseDown", at) for at in addresses} for one in came
            )

        await until(both_came_at_once, 60)
        await until(is_held_back, 60)
        sent = {name for one in came for name, _ in names(one)}
        # Whether the first scrape comes in time depends on the machine.
        assert sent - {"ReceiverDown"} == {"ReceiverDatabaseDown"}
        assert {one["groupLabels"]["job"] for one in came} == {"receiver"}
        runbooks = {alert["annotations"]["runbook"] for one in came for alert in one["alerts"]}
        assert "docs/metrics.md#receiverdatabasedown" in runbooks


def names(notification: Notification) -> set[tuple[str, str]]:
    """Return name and instance of each alert in a notification."""
    return {
        (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
        for alert in notification["alerts"]
    }
