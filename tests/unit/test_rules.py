"""The rules for Prometheus: promtool runs them on made-up series."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.telemetry.metrics import COMMIT_BUCKETS, Metrics
from tests.programs import require_program

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
ALERTS = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
END = "60m"
STEADY = "0+60x90"
"""A counter that grows by one per second for an hour and a half, with a sample per minute."""

Values = dict[str, str]


def on(name: str, **labels: str) -> str:
    """Return a series of the receiver, or of another job."""
    every = {"job": "receiver", "instance": "r1", **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in every.items()) + "}"


UP = on("up")
DATABASE_UP = on("receiver_database_up")
RECEIVED = on("receiver_samples_received_total")
STORED = on("receiver_samples_total", outcome="stored", reason="", table="app_logs")
FILTERED = on("receiver_samples_total", outcome="filtered", reason="", table="")
REJECTED = on("receiver_samples_total", outcome="rejected", reason="not_whole", table="app_logs")
FLOODED = on(
    "receiver_samples_total", outcome="rejected", reason="too_many_new_sources", table="app_logs"
)
UNPAIRED = on("receiver_samples_total", outcome="unpaired", reason="", table="app_logs")
PENDING_AGE = on("receiver_pending_oldest_age_seconds")
ACKNOWLEDGED = on("receiver_requests_total", code="204", version="1.0")
REFUSED = on("receiver_requests_total", code="503", version="1.0")
AT_FAULT = on("receiver_requests_total", code="400", version="1.0")
OVERLOADED = on("receiver_refused_requests_total", cause="overloaded")
ABSENCES = on("receiver_refused_requests_total", cause="database_unavailable")
IN_FLIGHT = on("receiver_requests_in_flight")
SIZE = on("receiver_in_flight_bytes")
ARRIVING = on("receiver_arriving_bytes")
CONNECTIONS = on("receiver_connections")
DISPLACED = on("receiver_connections_closed_total", cause="room")
FAILED = on("receiver_batches_failed_total")
COUNT = on("receiver_commit_duration_seconds_count")
SOURCE = on(
    "receiver_source_newest_sample_timestamp_seconds",
    table="app_logs",
    source_id="1",
    source_job="factory",
    source_instance="cam-1",
)


QUEUE = {"job": "prometheus", "remote_name": "receiver", "url": "http://entrance/api/v1/write"}
SENT = on("prometheus_remote_storage_queue_highest_sent_timestamp_seconds", **QUEUE)
WAITING = on("prometheus_remote_storage_samples_pending", **QUEUE)
RETRIED = on("prometheus_remote_storage_samples_retried_total", **QUEUE)
LOST = on("prometheus_remote_storage_samples_failed_total", **QUEUE)
TOO_OLD = on("prometheus_remote_storage_samples_dropped_total", **QUEUE, reason="too_old")
NOT_KEPT = on("prometheus_remote_storage_samples_dropped_total", **QUEUE, reason="dropped_series")
DISCOVERED = on("prometheus_notifications_alertmanagers_discovered", job="prometheus")
NOTIFIER_UP = on("up", job="alertmanager")
UNSENT = on("alertmanager_notifications_failed_total", job="alertmanager", integration="email")


def commits(share_within_a_second: float) -> Values:
    """Return the histogram of commits; those that take more than a second take five."""
    fast = f"0+{60 * share_within_a_second}x90"
    buckets = {
        on("receiver_commit_duration_seconds_bucket", le=str(float(bound))): (
            STEADY if bound >= 5 else fast if bound >= 0.1 else "0x90"
        )
        for bound in COMMIT_BUCKETS
    }
    return buckets | {
        on("receiver_commit_duration_seconds_bucket", le="+Inf"): STEADY,
        COUNT: STEADY,
    }


HEALTHY: Values = {
    UP: "1x90",
    DATABASE_UP: "1x90",
    RECEIVED: STEADY,
    STORED: STEADY,
    FILTERED: STEADY,
    REJECTED: "0x90",
    FLOODED: "0x90",
    UNPAIRED: "0x90",
    PENDING_AGE: "10x90",
    ACKNOWLEDGED: STEADY,
    REFUSED: "0x90",
    AT_FAULT: "0x90",
    OVERLOADED: "0x90",
    ABSENCES: "0x90",
    IN_FLIGHT: "10x90",
    on("receiver_requests_in_flight_limit"): "1000x90",
    SIZE: "1000x90",
    on("receiver_in_flight_bytes_limit"): "1000000x90",
    ARRIVING: "1000x90",
    on("receiver_arriving_bytes_limit"): "1000000x90",
    CONNECTIONS: "10x90",
    on("receiver_connections_limit"): "1000x90",
    DISPLACED: "0x90",
    FAILED: "0x90",
    # promtool's clock begins at 0.
    SOURCE: STEADY,
    **commits(1),
    SENT: STEADY,
    WAITING: "0x90",
    RETRIED: "0x90",
    LOST: "0x90",
    TOO_OLD: "0x90",
    NOT_KEPT: STEADY,
    DISCOVERED: "1x90",
    NOTIFIER_UP: "1x90",
    UNSENT: "0x90",
}
NEVER: Values = {}
BUDGET = {"ReceiverErrorBudgetBurnsFast", "ReceiverErrorBudgetBurnsSlowly"}

CASES: list[tuple[str, Values, set[str]]] = [
    ("all is well", NEVER, set()),
    ("it answers no scrape", {UP: "1x50 0x40"}, {"ReceiverDown"}),
    ("it misses a scrape", {UP: "1x58 0 1x30"}, set()),
    ("it is not scraped", {UP: "_x90"}, {"ReceiverDown"}),
    ("the database is away", {DATABASE_UP: "1x50 0x40"}, {"ReceiverDatabaseDown"}),
    ("the database starts again", {DATABASE_UP: "1x58 0 1x30"}, set()),
    ("nothing arrives", {RECEIVED: "100x90"}, {"ReceiverNothingArriving"}),
    ("nothing has ever arrived", {RECEIVED: "0x90"}, {"ReceiverNothingArriving"}),
    ("a pause of a few minutes", {RECEIVED: "0+60x50 3000x6 3060+60x30"}, set()),
    (
        "another replica gets everything",
        {RECEIVED: "0x90", RECEIVED.replace("r1", "r2"): STEADY},
        set(),
    ),
    ("a source is silent", {SOURCE: "0+60x45 2700x40"}, {"ReceiverSourceSilent"}),
    ("a source misses some scrapes", {SOURCE: "0+60x57 3420x40"}, set()),
    (
        "another replica saw it last",
        {SOURCE: "0+60x45 2700x40", SOURCE.replace("r1", "r2"): STEADY},
        set(),
    ),
    ("many are rejected", {REJECTED: "0+1x90"}, {"ReceiverSamplesRejected"}),
    ("a flood is limited", {FLOODED: "0x50 0+10x40"}, {"ReceiverFloodLimited"}),
    (
        "all of a small table are rejected",
        {STORED: "0+60000x90", REJECTED.replace("app_logs", "presses"): "0+1x90"},
        {"ReceiverSamplesRejected"},
    ),
    (
        "a source is silent in one table",
        {SOURCE.replace("app_logs", "presses"): "0+60x45 2700x40"},
        {"ReceiverSourceSilent"},
    ),
    ("many rows stay incomplete", {UNPAIRED: "0+1x90"}, {"ReceiverSamplesRejected"}),
    ("all are rejected", {STORED: "0x90", REJECTED: STEADY}, {"ReceiverSamplesRejected"}),
    ("a few are rejected", {REJECTED: "0+0.5x90"}, set()),
    ("a row is incomplete for long", {PENDING_AGE: "0+60x90"}, {"ReceiverPendingAgeing"}),
    ("rows of a backlog are incomplete", {PENDING_AGE: "600x90"}, set()),
    ("commits are slow", commits(0.95), {"ReceiverCommitSlow"}),
    ("a commit is slow", commits(0.995), set()),
    ("requests are turned away", {OVERLOADED: "0+1x90"}, {"ReceiverQueueFull"}),
    ("other requests are refused", {ABSENCES: "0+1x90"}, set()),
    ("nearly too many requests", {IN_FLIGHT: "950x90"}, {"ReceiverQueueFull"}),
    ("nearly too large requests", {SIZE: "950000x90"}, {"ReceiverQueueFull"}),
    ("many requests, for a moment", {IN_FLIGHT: "10x58 1000x2 10x30"}, set()),
    ("connections are closed for others", {DISPLACED: "0+1x90"}, {"ReceiverConnectionsFull"}),
    ("nearly too many connections", {CONNECTIONS: "950x90"}, {"ReceiverConnectionsFull"}),
    ("nearly too many bodies arrive", {ARRIVING: "950000x90"}, {"ReceiverConnectionsFull"}),
    ("many connections, for a moment", {CONNECTIONS: "10x58 1000x2 10x30"}, set()),
    ("requests fail", {REFUSED: "0+1.2x90"}, BUDGET),
    ("requests fail now and then", {REFUSED: "0+0.5x90"}, {"ReceiverErrorBudgetBurnsSlowly"}),
    ("hardly a request fails", {REFUSED: "0+0.05x90"}, set()),
    ("senders are at fault", {AT_FAULT: STEADY}, set()),
    (
        "sending falls behind",
        {SENT: "0+60x40 2400x50", WAITING: "10x90"},
        {"RemoteWriteBehind"},
    ),
    ("there is nothing to send", {SENT: "0+60x40 2400x50"}, set()),
    ("sending keeps up", {WAITING: "10x90"}, set()),
    ("requests are sent again", {RETRIED: "0+10x90"}, {"RemoteWriteFailing"}),
    ("requests were sent again", {RETRIED: "0+10x40 400x50"}, set()),
    ("samples are refused", {LOST: "0x50 0+1x40"}, {"RemoteWriteDropping"}),
    ("samples have waited too long", {TOO_OLD: "0x50 0+1x40"}, {"RemoteWriteDropping"}),
    ("Alertmanager is away", {NOTIFIER_UP: "1x40 0x50"}, {"AlertmanagerDown"}),
    ("no Alertmanager is known", {DISCOVERED: "0x90"}, {"AlertmanagerDown"}),
    ("notifications fail", {UNSENT: "0+1x90"}, {"AlertmanagerNotificationsFailing"}),
    (
        "it failed until a while ago",
        {REFUSED: "0+6x45 270x45"},
        {"ReceiverErrorBudgetBurnsSlowly"},
    ),
]

RECORDS: list[tuple[str, Values, str, float]] = [
    ("all acknowledged", NEVER, "job:receiver_requests:acknowledged_ratio_rate1h", 1),
    ("a quarter refused", {REFUSED: "0+20x90"}, "job:receiver_requests:burn_rate5m", 250),
    ("half refused", {REFUSED: STEADY}, "job:receiver_requests:burn_rate30m", 500),
    ("all fast", NEVER, "job:receiver_commits:fast_ratio_rate6h", 1),
    ("one in ten slow", commits(0.9), "job:receiver_commits:burn_rate1h", 10),
    ("half failed", {FAILED: STEADY}, "job:receiver_commits:fast_ratio_rate5m", 0.5),
]


def run_promtool(directory: Path, changed: Values, expression: str, expected: list[Any]) -> None:
    series = HEALTHY | changed
    test = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                "promql_expr_test": [
                    {"expr": expression, "eval_time": END, "exp_samples": expected}
                ],
            }
        ],
    }
    file = directory / "test.yml"
    file.write_text(yaml.safe_dump(test))
    ran = subprocess.run(
        [require_program("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_prometheus_accepts_the_rules() -> None:
    promtool = require_program("promtool")
    for path in RULES:
        ran = subprocess.run(
            [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("changed", "firing"), [pytest.param(*case, id=name) for name, *case in CASES]
)
def test_alerts(tmp_path: Path, changed: Values, firing: set[str]) -> None:
    run_promtool(
        tmp_path,
        changed,
        'count by (alertname) (ALERTS{alertstate="firing"}) > bool 0',
        [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)],
    )


@pytest.mark.parametrize(
    ("changed", "record", "value"), [pytest.param(*case, id=name) for name, *case in RECORDS]
)
def test_records(tmp_path: Path, changed: Values, record: str, value: float) -> None:
    run_promtool(
        tmp_path,
        changed,
        f"round({record}, 0.0001)",
        [{"labels": '{job="receiver"}', "value": value}],
    )


def test_every_alert_is_seen_to_fire() -> None:
    assert set().union(*(firing for _, _, firing in CASES)) == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do(name: str) -> None:
    annotations = ALERTS[name]["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook"}
    assert ALERTS[name]["labels"]["severity"] in {"critical", "warning"}
    file, _, anchor = annotations["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert anchor in {heading.lower() for heading in headings}


def test_the_rules_use_metrics_that_there_are() -> None:
    known = Metrics().expose().decode()
    used = {
        name
        for path in RULES
        for name in re.findall(r"(?<![\w:])receiver_[a-z_]+(?=[{\[ ,)])", path.read_text())
    }
    assert len(used) > 10
    observed = {
        "receiver_pending_oldest_age_seconds",
        "receiver_source_newest_sample_timestamp_seconds",
    }
    assert {name for name in used - observed if name not in known} == set()
