"""A sample application: a camera station that reads text and exposes its state as two gauges.

Run it as `python -m receiver.demo.application [--listen HOST:PORT]`.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from receiver.config.value_types import parse_address

LISTEN: Final = "127.0.0.1:9101"

# How often each code is drawn. 7 is an unknown code, which the receiver registers.
STATUSES: Final = {0: 80, 1: 7, 2: 7, 99: 4, 7: 2}
OK: Final = 0
LONGEST_HOLD: Final = 6
"""Maximum number of scrapes for which a status stays."""


class Station:
    """The state of the camera; it changes with every scrape.

    Args:
        random: Draws statuses and their durations.
        clock: Returns the time in seconds since the Unix epoch.
    """

    def __init__(self, random: Random, clock: Callable[[], float]) -> None:
        self.status = OK
        self._random = random
        self._clock = clock
        self._held = 0
        self.last_reading = clock()

    def work(self) -> None:
        """Advance to the next scrape; with a status other than OK no text is read."""
        if self._held == 0:
            self.status = self._random.choices(list(STATUSES), list(STATUSES.values()))[0]
            self._held = self._random.randint(1, LONGEST_HOLD)
        self._held -= 1
        if self.status == OK:
            self.last_reading = self._clock() - self._random.uniform(0, 1)


def build_application(
    random: Random | None = None, clock: Callable[[], float] = time.time
) -> web.Application:
    """Build the application, with its own camera and registry."""
    station = Station(random or Random(), clock)  # noqa: S311  it only plays a camera
    registry = CollectorRegistry()
    status = Gauge("app_status", "Error code of the station, 0 when all is well", registry=registry)
    reading = Gauge("ocr_value", "Unix time of the last OCR reading, seconds", registry=registry)

    async def expose(_: web.Request) -> web.Response:
        station.work()
        status.set(station.status)
        reading.set(station.last_reading)
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/metrics", expose)
    return app


@asynccontextmanager
async def applications(count: int) -> AsyncIterator[list[str]]:
    """Run some applications on free ports; yield their HOST:PORT."""
    runners = [web.AppRunner(build_application(), access_log=None) for _ in range(count)]
    try:
        for runner in runners:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield [f"127.0.0.1:{runner.addresses[0][1]}" for runner in runners]
    finally:
        for runner in runners:
            await runner.cleanup()


def address(text: str) -> str:
    """Read the argument of `--listen`.

    Raises:
        ArgumentTypeError: it is not HOST:PORT.
    """
    try:
        return parse_address(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def main() -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: the address cannot be listened on.
    """
    parser = ArgumentParser("python -m receiver.demo.application", description=__doc__)
    parser.add_argument(
        "--listen", type=address, default=LISTEN, metavar="HOST:PORT", help="default: %(default)s"
    )
    listen = parser.parse_args().listen
    host, _, port = listen.rpartition(":")
    try:
        web.run_app(build_application(), host=host.strip("[]"), port=int(port), access_log=None)
    except OSError as error:
        raise SystemExit(f"cannot listen on {listen}: {error.strerror}") from None


if __name__ == "__main__":
    main()
