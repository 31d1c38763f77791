"""Runs several processes that serve one address, to use more than one core."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from receiver.config.settings import Settings
from receiver.errors import ReceiverError, SetupError
from receiver.printable import printable, replace_what_cannot_be_written
from receiver.process.loop import run
from receiver.process.server import cannot_listen, start_and_end_logged, stop_signal, work
from receiver.process.signals import ENDING
from receiver.process.sockets import bind
from receiver.telemetry.messages import set_up_logging
from receiver.telemetry.shared_metrics import shared_metrics

logger = logging.getLogger(__name__)

SET_UP_WRONGLY: Final = 3
"""Exit code of a worker that would fail again after a restart."""
PAUSE: Final = 1.0
"""Seconds until a worker that has died is restarted."""
GRACE: Final = 5.0
"""Seconds that a worker may take to end in addition to its shutdown timeouts."""


async def supervise(settings: Settings, stop: asyncio.Event) -> None:
    """Keep `settings.workers` processes running until `stop` is set, then end them gracefully.

    Raises:
        SettingsError: the address cannot be listened on.
        SetupError: settings or database are not set up correctly; the worker has logged why.
    """
    async with reserved(settings) as reserved_settings:
        with shared_metrics() as shared, start_and_end_logged(reserved_settings):
            await keep_all_running(reserved_settings, shared, stop)


async def keep_all_running(settings: Settings, shared: Path, stop: asyncio.Event) -> None:
    """Keep all workers running until `stop` is set.

    Raises:
        SetupError: settings or database are not set up correctly; the worker has logged why.
    """
    share = divide(settings)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(1, settings.workers + 1):
                group.create_task(keep_running(number, share, shared, stop))
    except* SetupError as errors:
        raise SetupError(str(errors.exceptions[0])) from None


@asynccontextmanager
async def reserved(settings: Settings) -> AsyncIterator[Settings]:
    """Reserve the address for the workers, which bind it too; port 0 becomes a free port.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    host, port = settings.address
    with ExitStack() as holders:
        try:
            # Bound exclusively first: otherwise another receiver's workers could share the port.
            with ExitStack() as alone:
                for one in await bind(host, port):
                    alone.enter_context(one).listen()
                    port = one.getsockname()[1]
            for one in await bind(host, port, shared=True):
                holders.enter_context(one)
        except OSError as error:
            raise cannot_listen(settings, error) from error
        yield settings.model_copy(update={"listen": f"{settings.listen.rpartition(':')[0]}:{port}"})


def divide(settings: Settings) -> Settings:
    """Return the settings of one worker, with its share of the limits for all of them."""
    limits = (
        "max_in_flight_requests",
        "max_in_flight_size",
        "max_arriving_size",
        "max_connections",
        "series_cache_size",
    )
    return settings.model_copy(
        update={name: max(2, getattr(settings, name) // settings.workers) for name in limits}
    )


async def keep_running(number: int, settings: Settings, shared: Path, stop: asyncio.Event) -> None:
    """Run one worker, and restart it if it dies.

    Raises:
        SetupError: the worker ended because of a wrong setup.
    """
    while not stop.is_set():
        async with worker(number, settings, shared) as (process, ended):
            await first_of(stop, ended)
        if process.exitcode == SET_UP_WRONGLY:
            raise SetupError("the workers cannot start; see the message above")
        if not stop.is_set():
            logger.error(
                "worker %d ended (exit code %s): it is restarted",
                number,
                process.exitcode,
                extra={"fault": f"worker {number}"},
            )
            await asyncio.sleep(PAUSE)


@asynccontextmanager
async def worker(
    number: int, settings: Settings, shared: Path
) -> AsyncIterator[tuple[SpawnProcess, asyncio.Event]]:
    """Run a worker's process within this context; yield it and an event that is set at its end."""
    process = multiprocessing.get_context("spawn").Process(
        target=run_worker, args=(number, settings, shared), name=f"worker-{number}"
    )
    start(process, shared)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        yield process, ended
    finally:
        process.terminate()
        allowed = settings.shutdown_delay + settings.shutdown_timeout
        with suppress(TimeoutError):
            async with asyncio.timeout(allowed.total_seconds() + GRACE):
                await ended.wait()
        loop.remove_reader(process.sentinel)
        process.kill()
        process.join()
        mark_process_dead(process.pid, str(shared))  # type: ignore[no-untyped-call]


def start(process: SpawnProcess, shared: Path) -> None:
    """Start a worker, and restore the directory of metrics if it was removed."""
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Signals to all processes are blocked until the new process has handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def run_worker(number: int, settings: Settings, shared: Path) -> None:
    """Run a worker; this is the entry point of its process."""
    replace_what_cannot_be_written()
    set_up_logging(settings.log_level, settings.log_format, worker=number)
    try:
        run(work_until_orphaned(number, settings, shared))
    except SetupError as error:
        print(f"receiver: {printable(str(error))}", file=sys.stderr)  # noqa: T201  as the command itself ends
        sys.exit(SET_UP_WRONGLY)
    except ReceiverError as error:
        sys.exit(f"receiver: {printable(str(error))}")


async def work_until_orphaned(number: int, settings: Settings, shared: Path) -> None:
    """Serve until a signal ends the worker, or until its parent process is gone."""
    stop = stop_signal()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if parent := multiprocessing.parent_process():
        asyncio.get_running_loop().add_reader(parent.sentinel, stop.set)
    # The first worker answers while the database is unreachable; the others listen once they can
    # store samples, so that a receiver that was reported ready is ready.
    await work(settings, stop, shared_metrics=shared, ready_first=number > 1)
