"""A real Alertmanager with the stack's configuration notifies of causes, not of consequences."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import unused_port

from tests.programs import require_program
from tests.unit.test_alertmanager import chosen
from tests.waiting import until

Notification = dict[str, Any]


@asynccontextmanager
async def webhook(received: list[Notification]) -> AsyncIterator[str]:
    """Serve a webhook that records notifications; yield its URL."""

    async def take(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response()

    application = web.Application()
    application.router.add_post("/", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@asynccontextmanager
async def notifying(directory: Path, target: str) -> AsyncIterator[str]:
    """Run an Alertmanager that notifies a webhook within a second; yield its URL."""
    text = re.sub(r"\burl_file: .*", f"url: {target}", chosen("webhook"))
    (directory / "alertmanager.yml").write_text(re.sub(r"group_wait: \d+s", "group_wait: 1s", text))
    port = unused_port()
    command = [
        require_program("prometheus-alertmanager"),
        f"--config.file={directory}/alertmanager.yml",
        f"--storage.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: answers(f"{url}/-/ready"))
        yield url
    finally:
        process.terminate()
        await process.wait()


async def answers(url: str) -> bool:
    """Return whether a server answers with 200."""
    try:
        async with ClientSession() as client, client.get(url) as answer:
            return answer.status == 200
    except OSError:
        return False


def alert(name: str, job: str, severity: str, **labels: str) -> dict[str, Any]:
    every = {"alertname": name, "job": job, "severity": severity, **labels}
    return {"labels": every, "annotations": {"summary": name}}


async def test_causes_are_sent_by_job_and_what_follows_is_not(tmp_path: Path) -> None:
    received: list[Notification] = []
    alerts = [
        alert("ReceiverDatabaseDown", "receiver", "critical"),
        *(alert("ReceiverSourceSilent", "receiver", "warning", source_id=str(n)) for n in range(5)),
        alert("RemoteWriteFailing", "prometheus", "warning"),
        alert("RemoteWriteDropping", "prometheus", "critical"),
    ]
    async with (
        webhook(received) as target,
        notifying(tmp_path, target) as url,
        ClientSession() as client,
    ):
        async with client.post(f"{url}/api/v2/alerts", json=alerts) as answer:
            assert answer.status == 200
        await until(lambda: len(received) == 2)
        async with client.get(f"{url}/api/v2/alerts") as answer:
            shown = await answer.json()
    sent = {
        notification["groupLabels"]["job"]: [
            one["labels"]["alertname"] for one in notification["alerts"]
        ]
        for notification in received
    }
    assert sent == {"receiver": ["ReceiverDatabaseDown"], "prometheus": ["RemoteWriteDropping"]}
    assert len(shown) == len(alerts), "what is not sent is shown"
