"""Checks whether Prometheus reads from this receiver, and whether that works."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from receiver.clients.prometheus import Prometheus, selector
from receiver.clients.prometheus_model import shorten
from receiver.config.settings import Settings
from receiver.doctor.remotes import lacks_credentials, listed, to_us
from receiver.http import paths
from receiver.storage.diagnosis.findings import Finding, note, ok, problem, warning

LONG_AGO: Final = 1
"""Seconds since the Unix epoch: a time of which no Prometheus has samples of its own."""


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
    metric = next(iter(settings.catalogue.by_metric))
    if warnings := await prometheus.warnings(selector(metric, {}), LONG_AGO):
        return [
            warning(
                f"remote_read from {listed(ours)} fails: {shorten(', '.join(warnings))}",
                "the receiver's log has the reason",
            )
        ]
    return [ok(f"remote_read is from {listed(ours)}")]
