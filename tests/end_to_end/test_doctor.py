"""`receiver doctor` examines a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from aiohttp import web

from receiver.config.settings import Settings
from receiver.demo import prometheus
from receiver.demo.sender import load_configuration, redirect
from receiver.doctor.prometheus import diagnose
from receiver.storage.diagnosis.findings import Level
from tests.conftest import MakeSettings
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.receivers import receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end


@asynccontextmanager
async def application() -> AsyncIterator[tuple[str, dict[str, float]]]:
    """Run an application; yield its address, and the metrics that it exposes."""
    values = {"app_status": 0.0, "ocr_value": 1.7e9}

    async def expose(_: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name} {value}\n" for name, value in values.items()))

    app = web.Application()
    app.router.add_get("/metrics", expose)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    yield f"{host}:{port}", values
    await runner.cleanup()


async def levels(url: str, settings: Settings) -> dict[str, Level]:
    """Return the level of the last finding of each topic."""
    return {topic: finding.level async for topic, finding in diagnose(url, settings)}


async def test_a_real_prometheus(database_url: str, make_settings: MakeSettings) -> None:
    program = require_program("prometheus")
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    async with (
        receiving(make_settings(database_url=database_url)) as receiver,
        application() as (target, values),
    ):
        settings = make_settings(listen="{}:{}".format(*receiver.address))
        configuration = redirect(
            load_configuration(),
            targets={"station-1": target},
            url=receiver.url(),
            interval=timedelta(seconds=1),
        )
        running = asyncio.create_task(prometheus.run(program, configuration, listen))

        async def is_well() -> bool:
            found = await levels(url, settings)
            return found == dict.fromkeys(
                ("prometheus", "remote_write", "remote_read", "queue", "metrics"), Level.OK
            )

        async def lacks_ocr() -> bool:
            return (await levels(url, settings))["metrics"] is Level.PROBLEM

        await until(is_well)
        elsewhere = settings.model_copy(update={"listen": "127.0.0.1:1"})
        assert (await levels(url, elsewhere))["remote_write"] is Level.WARNING
        assert (await levels(url, elsewhere))["remote_read"] is Level.NOTE
        renamed = settings.model_copy(update={"status_metric": "state"})
        assert (await levels(url, renamed))["relabeling"] is Level.PROBLEM
        del values["ocr_value"]
        await until(lacks_ocr)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
