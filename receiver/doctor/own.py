"""Checks the receiver itself: its settings, and whether it runs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final

from receiver.clients.health import ask_ready
from receiver.config.settings import Settings, find_ignored
from receiver.doctor import security
from receiver.errors import SettingsError, TablesFileError, UnavailableError
from receiver.storage.diagnosis.findings import (
    Finding,
    Report,
    brief,
    carry_out,
    note,
    ok,
    problem,
    warning,
)

REMOTE_TIMEOUT: Final = timedelta(seconds=30)
"""Time after which Prometheus gives up and retries a request (its default `remote_timeout`)."""

RESHARDING: Final = timedelta(minutes=5)
"""Time that may pass between the samples of a row when Prometheus catches up after an outage."""


async def diagnose(settings: Settings) -> Report:
    """Check the receiver itself."""
    checks = {topic: partial(check, settings) for topic, check in CHECKS.items()}
    async for found in carry_out(checks):
        yield found


def faults_of_tables(settings: Settings) -> list[str]:
    """Return what is wrong with the tables file; empty if nothing is."""
    try:
        _ = settings.catalogue
    except TablesFileError as error:
        return list(error.faults)
    except SettingsError as error:
        return [str(error)]
    return []


async def check_settings(settings: Settings) -> list[Finding]:
    """Check whether the settings fit each other and Prometheus."""
    findings = [note(*ignored) for ignored in find_ignored()]
    findings += [problem(fault) for fault in faults_of_tables(settings)]
    if settings.commit_timeout >= REMOTE_TIMEOUT:
        findings.append(
            warning(
                f"RECEIVER_COMMIT_TIMEOUT is {brief(settings.commit_timeout)}: Prometheus gives up "
                f"after {brief(REMOTE_TIMEOUT)} by default and retries the request",
                "lower it, or raise remote_timeout there",
            )
        )
    if settings.pair_timeout < RESHARDING:
        findings.append(
            warning(
                f"RECEIVER_PAIR_TIMEOUT is {brief(settings.pair_timeout)}: after an outage the "
                "samples of a row may arrive further apart",
                f"{brief(RESHARDING)} or more",
            )
        )
    return findings or [ok("the settings are consistent")]


async def check_ready(settings: Settings) -> list[Finding]:
    """Check whether a receiver runs at the address in the settings and is ready."""
    try:
        status, text = await ask_ready(settings)
    except UnavailableError as error:
        return [warning(str(error), "start it: `receiver serve`")]
    if status != HTTPStatus.OK:
        return [problem(f"{settings.own_url}/-/ready: {text}", "see the receiver's log")]
    return [ok(f"a receiver answers at {settings.own_url} and is ready")]


CHECKS: Final = {"settings": check_settings, **security.CHECKS, "receiver": check_ready}
