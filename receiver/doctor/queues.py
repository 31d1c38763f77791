"""Checks a queue of Prometheus: the samples that it sends to one `remote_write` URL."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from receiver.clients.prometheus import QueueMetrics
from receiver.printable import counted
from receiver.storage.diagnosis.findings import Finding, brief, note, ok, problem, warning

BEHIND: Final = timedelta(minutes=2)
"""Lag above which a queue is reported as behind."""


class Queue(NamedTuple):
    """The state of Prometheus' queue for one URL."""

    url: str
    newest: float
    """Time of the newest scraped sample, in seconds since the Unix epoch."""
    sent: float
    """Time of the newest sent sample; 0 if there is none yet."""
    pending: float
    failed: float
    retried: float
    shards: float
    shards_desired: float
    shards_max: float

    @classmethod
    def of(cls, metrics: QueueMetrics, url: str) -> Queue:
        """Read the state from metrics; missing ones are 0."""

        def value(name: str) -> float:
            return metrics.get(name, {}).get(url, 0)

        # The metric of all queues is deprecated in newer versions; the metric of one queue is less
        # exact, since it does not change while the queue is full.
        newest = metrics.get("highest_timestamp_in_seconds", {}).get("")
        return cls(
            url=url,
            newest=value("queue_highest_timestamp_seconds") if newest is None else newest,
            sent=value("queue_highest_sent_timestamp_seconds"),
            pending=value("samples_pending"),
            failed=value("samples_failed_total"),
            retried=value("samples_retried_total"),
            shards=value("shards"),
            shards_desired=value("shards_desired"),
            shards_max=value("shards_max"),
        )

    @property
    def lag(self) -> timedelta:
        """Return how much older the newest sent sample is than the newest scraped one."""
        return timedelta(seconds=self.newest - self.sent)


def judge(queue: Queue) -> list[Finding]:
    """Return the findings for a queue."""
    findings = []
    if queue.pending and not queue.sent:
        findings.append(problem("nothing has been sent yet", "see Prometheus' log"))
    elif queue.pending and queue.lag > BEHIND:
        found = f"{brief(queue.lag)} behind, {counted(queue.pending, 'sample')} pending"
        advice = "check /-/ready, the receiver's log and Prometheus' log"
        findings.append(problem(found, advice))
    if queue.failed:
        found = (
            f"{counted(queue.failed, 'sample')} lost since Prometheus started: refused with a 4xx"
        )
        findings.append(warning(found, "Prometheus' log has the receiver's answers"))
    if queue.shards_desired > queue.shards_max:
        found = (
            f"needs {counted(queue.shards_desired, 'shard')}, the maximum is {queue.shards_max:.0f}"
        )
        findings.append(warning(found, "raise queue_config.max_shards, or RECEIVER_WRITERS"))
    if queue.retried:
        found = f"{counted(queue.retried, 'sample')} retried since Prometheus started"
        findings.append(note(found, "the receiver could not store them at first; nothing is lost"))
    if not findings:
        shards = counted(queue.shards, "shard")
        findings.append(ok(f"{shards}, {counted(queue.pending, 'sample')} pending"))
    return [finding._replace(found=f"{queue.url}: {finding.found}") for finding in findings]
