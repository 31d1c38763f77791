"""Checks whether Prometheus reads from this receiver, and whether that works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from receiver.clients.prometheus import Prometheus, public, text
from receiver.clients.prometheus_model import RemoteRead, RemoteWrite, shorten
from receiver.config.settings import Settings
from receiver.doctor.remotes import lacks_credentials, listed, to_us
from receiver.http import paths
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning

LONG_AGO: Final = 1
"""Seconds since the Unix epoch: a time for which no Prometheus has samples of its own."""


async def check_remote_read(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether Prometheus reads from this receiver, by a query that finds nothing."""
    remotes = await prometheus.remote_reads()
    scheme = urlsplit(settings.own_url).scheme
    url = f"{scheme}://HOST:{settings.address[1]}{paths.READ}"
    if not remotes:
        return [
            note(
                "Prometheus has no remote_read, so PromQL finds only what it stores itself",
                f"in prometheus.yml: url: {url}; see docs/remote-read.md",
            )
        ]
    if not (ours := to_us(remotes, settings, paths.READ)):
        return [
            note(
                f"remote_read is from {listed(remotes)}, which does not look like this receiver",
                f"unless a proxy is in between, the url must be {url}",
            )
        ]
    if alone := [remote for remote in ours if lacks_credentials(remote, settings)]:
        return [
            problem(
                f"remote_read from {listed(alone)} sends no credentials, and is refused",
                "in prometheus.yml: authorization or basic_auth; see docs/security.md",
            )
        ]
    return [await check_query(prometheus, settings, remote) for remote in ours]


async def check_query(prometheus: Prometheus, settings: Settings, remote: RemoteRead) -> Finding:
    """Check whether Prometheus can query this receiver, and which series it selects."""
    name = public(remote.url)
    required = remote.required_matchers or {}
    matchers = {"__name__": next(iter(settings.catalogue.by_metric)), **required}
    if warnings := await prometheus.warnings(f"{{{written(matchers)}}}", LONG_AGO):
        return warning(
            f"remote_read from {name} fails: {shorten(', '.join(warnings))}",
            "the receiver's log has the reason",
        )
    # Prometheus adds its external labels to the matchers of a query.
    added = await prometheus.external_labels() if remote.filter_external_labels == "true" else {}
    writes = to_us(await prometheus.remote_writes(), settings, paths.WRITE)
    if dropped := sorted(label for label in added if any(drops(one, label) for one in writes)):
        return warning(
            f"remote_read from {name} asks for series with {written(added)} (external_labels), but "
            f"write_relabel_configs drop {', '.join(dropped)}, so it finds nothing",
            "set filter_external_labels: false for it, or keep the labels",
        )
    asked = f", for series with {written(added)} (external_labels)" if added else ""
    asked += f", by queries with {written(required)} (required_matchers)" if required else ""
    return ok(f"remote_read is from {name}{asked}")


def written(labels: Mapping[str, str]) -> str:
    """Return the PromQL matchers for labels with these values."""
    return ",".join(f"{label}={text(value)}" for label, value in labels.items())


def drops(remote: RemoteWrite, label: str) -> bool:
    """Return whether the rules of a queue remove a label; other checks report invalid rules."""
    try:
        return any(rule.drops_label(label) for rule in remote.rules or ())
    except ValueError:
        return False
