"""The receiver's own side: its settings, and whether it runs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final

from receiver.clients.health import ask_ready
from receiver.config.settings import Settings, find_ignored
from receiver.doctor import security
from receiver.errors import UnavailableError
from receiver.storage.diagnosis.findings import (
    Finding,
    Report,
    carry_out,
    note,
    ok,
    problem,
    spell,
    warning,
)

PROMETHEUS_PATIENCE: Final = timedelta(seconds=30)
"""Until Prometheus gives a request up and sends it again (its default `remote_timeout`)."""

RESHARDING: Final = timedelta(minutes=5)
"""Twins come some minutes apart when Prometheus catches up after an outage."""


async def diagnose(settings: Settings) -> Report:
    """Look at the receiver itself."""
    checks = {topic: partial(check, settings) for topic, check in CHECKS.items()}
    async for found in carry_out(checks):
        yield found


async def check_settings(settings: Settings) -> list[Finding]:
    """Whether settings fit each other, and Prometheus."""
    findings = [note(*ignored) for ignored in find_ignored()]
    if settings.commit_timeout >= PROMETHEUS_PATIENCE:
        findings.append(
            warning(
                f"RECEIVER_COMMIT_TIMEOUT is {spell(settings.commit_timeout)}: Prometheus gives up "
                f"after {spell(PROMETHEUS_PATIENCE)} by default and sends the same again",
                "lower it, or raise remote_timeout there",
            )
        )
    if settings.pair_timeout < RESHARDING:
        findings.append(
            warning(
                f"RECEIVER_PAIR_TIMEOUT is {spell(settings.pair_timeout)}: after an outage the two "
                "samples of a pair may come further apart",
                f"{spell(RESHARDING)} or more",
            )
        )
    return findings or [ok("the settings fit each other")]


async def check_ready(settings: Settings) -> list[Finding]:
    """Whether a receiver runs where the settings say, and can store."""
    try:
        status, text = await ask_ready(settings)
    except UnavailableError as error:
        return [warning(str(error), "start it: `receiver serve`")]
    if status != HTTPStatus.OK:
        return [problem(f"{settings.own_url}/-/ready: {text}", "the receiver's log tells more")]
    return [ok(f"a receiver answers at {settings.own_url} and is ready")]


CHECKS: Final = {"settings": check_settings, **security.CHECKS, "receiver": check_ready}
