"""Checks Prometheus: whether it sends to the receiver, keeps up, and has the metrics."""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import urlsplit

from receiver.clients.prometheus import Prometheus, opened, public
from receiver.clients.prometheus_model import RefusedByPrometheusError, RemoteWrite, shorten
from receiver.config.settings import Settings
from receiver.doctor.queues import Queue, judge
from receiver.doctor.remote_read import check_remote_read
from receiver.doctor.remotes import lacks_credentials, listed, to_us
from receiver.doctor.table_series import TableSeries, check_table
from receiver.errors import UnavailableError
from receiver.http import paths
from receiver.storage.diagnosis.findings import Finding, Report, carry_out, ok, problem, warning

SHOWN: Final = 3
"""Maximum number of targets in a finding."""


async def diagnose(url: str, settings: Settings) -> Report:
    """Check the Prometheus at `url`."""
    async with opened(url) as prometheus:
        try:
            version = await prometheus.version()
        except UnavailableError as error:
            yield "prometheus", problem(str(error), "check the URL given by --prometheus")
            return
        yield "prometheus", ok(f"Prometheus {version}")
        checks = {topic: partial(check, prometheus, settings) for topic, check in CHECKS.items()}
        async for found in carry_out(checks):
            yield found


async def check_remote_write(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether Prometheus sends to this receiver."""
    remotes = await prometheus.remote_writes()
    scheme = urlsplit(settings.own_url).scheme
    url = f"{scheme}://HOST:{settings.address[1]}{paths.WRITE}"
    if not remotes:
        return [problem("Prometheus has no remote_write", f"in prometheus.yml: url: {url}")]
    if not (ours := to_us(remotes, settings, paths.WRITE)):
        return [
            warning(
                f"remote_write goes to {listed(remotes)}, which does not look like this receiver",
                f"unless a proxy is in between, the url must be {url}",
            )
        ]
    if alone := [remote for remote in ours if lacks_credentials(remote, settings)]:
        return [
            problem(
                f"remote_write to {listed(alone)} sends no credentials, and is refused",
                "in prometheus.yml: authorization or basic_auth; see docs/security.md",
            )
        ]
    return [ok(f"remote_write goes to {listed(ours)}")]


async def check_relabeling(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether `write_relabel_configs` keep the metrics of all tables."""
    return [
        finding
        for remote in to_us(await prometheus.remote_writes(), settings, paths.WRITE)
        for name in settings.catalogue.by_metric
        for finding in judge_rules(remote, name)
    ]


def judge_rules(remote: RemoteWrite, name: str) -> list[Finding]:
    """Check whether the relabeling rules of a queue keep a metric."""
    rules = f"write_relabel_configs for {public(remote.url)}"
    try:
        dropped = any(rule.drops(name) for rule in remote.rules or ())
    except ValueError as error:
        return [warning(f"{rules} cannot be read: {shorten(str(error))}")]
    advice = "change them, or the metrics of the tables (`receiver tables` lists them)"
    return [problem(f"{rules} drop {name}", advice)] if dropped else []


async def check_targets(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether all scrape targets answer."""
    del settings
    try:
        targets = await prometheus.targets()
    except RefusedByPrometheusError:
        # A server that only stores samples has no targets.
        return []
    down = [target for target in targets if target.health == "down"]
    if not down:
        return []
    first = ", ".join(
        f"{public(target.scrape_url)} ({shorten(target.last_error)})" for target in down[:SHOWN]
    )
    more = ", …" if len(down) > SHOWN else ""
    return [
        warning(
            f"{len(down)} of {len(targets)} targets are down: {first}{more}",
            "targets that are not scraped have no rows; see Status > Targets in Prometheus",
        )
    ]


async def check_queues(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether Prometheus sends all samples in time."""
    metrics = await prometheus.queue_metrics()
    remotes = await prometheus.remote_writes()
    urls = {public(remote.url) for remote in to_us(remotes, settings, paths.WRITE) or remotes}
    return [
        finding
        for url in metrics.get("samples_pending", {})
        if url in urls
        for finding in judge(Queue.of(metrics, url))
    ]


async def check_metrics(prometheus: Prometheus, settings: Settings) -> list[Finding]:
    """Check whether Prometheus has the metrics of each table, with the same label sets."""
    try:
        added = await prometheus.external_labels()
    except RefusedByPrometheusError:
        added = {}
    return [
        finding
        for table in settings.catalogue.tables
        for finding in await check_table(prometheus, TableSeries(table, added))
    ]


CHECKS: Final = {
    "remote_write": check_remote_write,
    "remote_read": check_remote_read,
    "relabeling": check_relabeling,
    "targets": check_targets,
    "queue": check_queues,
    "metrics": check_metrics,
}
