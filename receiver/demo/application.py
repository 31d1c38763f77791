"""A sample application: a camera station that reads text, and a press.

Run it as `python -m receiver.demo.application [--listen HOST:PORT]`.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from string import ascii_uppercase
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from receiver.config.value_types import parse_address

LISTEN: Final = "127.0.0.1:9101"

# How often each code is drawn. 7 is an unknown code, which the receiver registers.
STATUSES: Final = {0: 80, 1: 7, 2: 7, 99: 4, 7: 2}
OK: Final = 0
LONGEST_HOLD: Final = 6
"""Maximum number of scrapes for which a status stays."""
NORMAL_PRESSURE: Final = 120.0
"""Pressure of a running press, in bar."""
SWITCHES: Final = 0.1
"""Probability that a press stops or starts at a scrape."""


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


class Press:
    """The state of a press; it changes with every scrape.

    Args:
        random: Draws what the press does.
    """

    def __init__(self, random: Random) -> None:
        self.pressure = NORMAL_PRESSURE
        """In bar."""
        self.running = True
        self.strokes = 0
        self._random = random

    def work(self) -> None:
        """Advance to the next scrape; sometimes the press stops, and makes no strokes then."""
        if self._random.random() < SWITCHES:
            self.running = not self.running
        self.strokes += self._random.randint(2, 5) if self.running else 0
        wanted = NORMAL_PRESSURE if self.running else 0.0
        drift = (wanted - self.pressure) / 4 + self._random.uniform(-0.5, 0.5)
        self.pressure = round(max(0.0, self.pressure + drift), 2)


class Exposition:
    """Exposes the state of a station and a press.

    Args:
        line: The production line, a label of the press's metrics.
        station: The station.
        press: The press.
    """

    def __init__(self, line: str, station: Station, press: Press) -> None:
        self._station, self._press = station, press
        self._registry = registry = CollectorRegistry()
        self._status = Gauge(
            "app_status", "Error code of the station, 0 when all is well", registry=registry
        )
        self._reading = Gauge(
            "ocr_value", "Unix time of the last OCR reading, seconds", registry=registry
        )
        self._pressure, self._running = (
            Gauge(name, meaning, ["line"], registry=registry).labels(line)
            for name, meaning in (
                ("press_pressure_bar", "Pressure in the cylinder"),
                ("press_running", "Whether the press runs: 0 or 1"),
            )
        )
        self._strokes = Counter(
            "press_strokes", "Strokes of the press", ["line"], registry=registry
        ).labels(line)

    def scrape(self) -> bytes:
        """Advance the station and the press, and return their state in Prometheus' text format."""
        before = self._press.strokes
        self._station.work()
        self._press.work()
        self._status.set(self._station.status)
        self._reading.set(self._station.last_reading)
        self._pressure.set(self._press.pressure)
        self._running.set(self._press.running)
        self._strokes.inc(self._press.strokes - before)
        return generate_latest(self._registry)


def build_application(
    random: Random | None = None, clock: Callable[[], float] = time.time, line: str = "A"
) -> web.Application:
    """Build the application, with its own camera, press and registry.

    Args:
        random: Draws what the camera and the press do.
        clock: Returns the time in seconds since the Unix epoch.
        line: The production line, a label of the press's metrics.
    """
    chance = random or Random()  # noqa: S311  it only plays
    exposition = Exposition(line, Station(chance, clock), Press(chance))

    async def expose(_: web.Request) -> web.Response:
        return web.Response(body=exposition.scrape(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", expose)
    return app


@asynccontextmanager
async def applications(names: Sequence[str]) -> AsyncIterator[dict[str, str]]:
    """Run an application of each name on a free port; yield their HOST:PORT by name."""
    lines = ascii_uppercase[: len(names)]
    runners = [web.AppRunner(build_application(line=line), access_log=None) for line in lines]
    try:
        for runner in runners:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        addresses = [f"127.0.0.1:{runner.addresses[0][1]}" for runner in runners]
        yield dict(zip(names, addresses, strict=True))
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
