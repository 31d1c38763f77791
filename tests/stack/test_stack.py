"""The compose stack as documented; each test continues with the state left by the previous one."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.stack.conftest import MakeStack
from tests.stack.engine import Stack, attempt, docker, services_of, status
from tests.waiting import until

DEMO = "--profile=demo"
BALANCED = {"COMPOSE_FILE": "docker-compose.yml:docker-compose.balanced.yml", "RECEIVERS": "3"}
SENT_BY_NOW = timedelta(seconds=15)

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Stack:
    """Start the stack with the sample applications."""
    made = make_stack()
    made.compose(DEMO, "up", "--detach")
    return made


async def wait_for_rows(stack: Stack) -> None:
    """Wait for a row that is newer than now."""
    begin = datetime.now(UTC)
    await until(lambda: any(time > begin for _, time in stack.rows()), 60)


async def require_every_row(stack: Stack) -> None:
    """Require that every scrape has become a row, except those still being sent."""

    async def is_all_there() -> bool:
        until_then = datetime.now(UTC) - SENT_BY_NOW
        scraped = {(name, time) for name, time in stack.scraped() if time < until_then}
        return bool(scraped) and scraped <= stack.rows()

    await until(is_all_there, 120)


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def test_all_are_healthy_in_order(stack: Stack) -> None:
    asked = services_of(stack, lambda spec: "test" in spec.get("healthcheck", {}))
    for service in asked | {"receiver"}:
        (container,) = stack.containers(service)
        # Nothing waits for Grafana, nor for Alertmanager.
        allowed = {"healthy"} | ({"starting"} if service in {"grafana", "alertmanager"} else set())
        assert container["State"]["Health"]["Status"] in allowed, service
    order = ("timescaledb", "receiver", "grafana-role", "grafana")
    started = [stack.containers(name)[0]["State"]["StartedAt"] for name in order]
    assert started == sorted(started)
    (role,) = stack.containers("grafana-role")
    assert role["State"]["ExitCode"] == 0


async def test_rows_come_within_a_minute(stack: Stack) -> None:
    await wait_for_rows(stack)
    assert "ok       metrics" in stack.compose(
        "exec", "-T", "receiver", "receiver", "doctor", "--prometheus=http://prometheus:9090"
    )


async def test_prometheus_watches_the_stack_and_alerts_reach_their_page(stack: Stack) -> None:
    async def is_watched() -> bool:
        up = stack.ask_prometheus("up == 1")
        return {series["metric"]["job"] for series in up} == {
            "application",
            "receiver",
            "prometheus",
            "alertmanager",
        }

    await until(is_watched, 60)
    assert status(f"{stack.url('alertmanager', 9093)}/api/v2/alerts") == 200
    found = stack.ask_prometheus("prometheus_notifications_alertmanagers_discovered")
    assert [series["value"][1] for series in found] == ["1"]


def test_secrets_are_for_the_containers_alone(stack: Stack) -> None:
    secrets = stack.directory / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for container in (one for name in stack.services() for one in stack.containers(name)):
        for text in (path.read_text().strip() for path in secrets.iterdir() if path.is_file()):
            assert text not in json.dumps(container["Config"])
    for service in ("receiver", "prometheus", "timescaledb"):
        shown = stack.compose("exec", "-T", service, "sh", "-c", "touch /x 2>&1 || true")
        assert "Read-only file system" in shown


async def test_a_user_is_added_by_one_command_and_let_in(stack: Stack) -> None:
    page = f"{stack.url('receiver', 9201)}/"
    word = "it's secret"
    assert status(page, basic("anna", word)) == 401
    shown = stack.compose("run", "--rm", "-T", "credential", "user", "anna", text=f"{word}\n")
    assert word not in shown
    await until(lambda: status(page, basic("anna", word)) == 200)
    assert status(page, basic("anna", word + "x")) == 401
    made = stack.compose("run", "--rm", "-T", "credential", "token").split()
    token = next(text for text in made if len(text) == 64)
    await until(lambda: status(page, f"Bearer {token}") == 200)
    file = stack.directory / "secrets/credentials/credentials.yml"
    assert file.owner() == (stack.directory / "secrets").owner()
    assert token not in file.read_text()


async def test_credentials_that_an_editor_replaced_arrive(stack: Stack) -> None:
    file = stack.directory / "secrets/credentials/credentials.yml"
    new = file.with_suffix(".new")
    lines = file.read_text().splitlines(keepends=True)
    new.write_text("".join(line for line in lines if "anna" not in line))
    new.chmod(0o644)
    new.replace(file)
    page = f"{stack.url('receiver', 9201)}/"
    await until(lambda: status(page, basic("anna", "it's secret")) == 401)


def test_what_is_not_the_receivers_leaves_it_running(stack: Stack) -> None:
    (before,) = stack.containers("receiver")
    stack.configure({"PROMETHEUS_RETENTION": "14d"})
    stack.compose(DEMO, "up", "--detach")
    assert stack.containers("receiver")[0]["Id"] == before["Id"]
    stack.configure({"RECEIVER_LOG_FORMAT": "json"})
    stack.compose(DEMO, "up", "--detach")
    (after,) = stack.containers("receiver")
    assert after["Id"] != before["Id"]
    assert '"event": "start"' in docker("logs", after["Id"])


@pytest.mark.parametrize("service", ["receiver", "timescaledb", "prometheus"])
async def test_what_is_killed_comes_back_without_a_lost_row(stack: Stack, service: str) -> None:
    (before,) = stack.containers(service)
    # From within, and with it this command: what `docker kill` ends is not restarted.
    attempt("exec", before["Id"], "sh", "-c", "kill -9 -1")

    async def is_back() -> bool:
        (now,) = stack.containers(service)
        health = now["State"].get("Health", {}).get("Status")
        return bool(now["RestartCount"] > before["RestartCount"]) and health == "healthy"

    await until(is_back, 90)
    await wait_for_rows(stack)
    if service == "prometheus":
        # It never sends what it had scraped and not sent when it was killed.
        source = ("--from-url=http://prometheus:9090", "--start=1h")
        stack.compose("exec", "-T", "receiver", "receiver", "backfill", *source)
    await require_every_row(stack)


async def test_a_restart_loses_no_row(stack: Stack) -> None:
    stack.compose("restart", "receiver", "timescaledb")
    await wait_for_rows(stack)
    await require_every_row(stack)


async def test_down_and_up_keep_every_row(stack: Stack) -> None:
    before = stack.rows()
    stack.compose(DEMO, "down")
    assert stack.services() == set()
    stack.compose(DEMO, "up", "--detach")
    assert before <= stack.rows()
    await wait_for_rows(stack)
    await require_every_row(stack)


async def test_several_receivers_behind_a_load_balancer(stack: Stack) -> None:
    stack.configure(BALANCED)
    stack.compose(DEMO, "up", "--detach")
    assert len(stack.containers("receiver")) == 3
    (balancer,) = stack.containers("load-balancer")
    stack.compose("up", "--detach")
    assert len(stack.containers("receiver")) == 3
    assert stack.containers("load-balancer")[0]["Id"] == balancer["Id"]
    page = f"{stack.url('load-balancer', 9201)}/-/ready"
    await until(lambda: status(page) == 200)
    docker("kill", stack.containers("receiver")[0]["Id"])
    await wait_for_rows(stack)
    stack.configure({"RECEIVERS": "2"})
    stack.compose(DEMO, "up", "--detach")
    assert len(stack.containers("receiver")) == 2
    await wait_for_rows(stack)
    await require_every_row(stack)
    assert status(page) == 200


async def test_the_way_back_to_one(stack: Stack) -> None:
    stack.forget(BALANCED)
    stack.compose(DEMO, "up", "--detach", "--remove-orphans")
    assert "load-balancer" not in stack.services()
    assert len(stack.containers("receiver")) == 1
    await wait_for_rows(stack)
    await require_every_row(stack)


async def test_a_tables_file_is_mounted(stack: Stack) -> None:
    tables = stack.directory / "deploy/tables"
    text = (tables / "tables.yaml.example").read_text()
    (tables / "tables.yaml").write_text(
        f"{text}  seen:\n    columns:\n      value: {{metric: ocr_value, type: double}}\n"
    )
    (tables / "tables.yaml").chmod(0o644)
    stack.configure({"RECEIVER_TABLES_FILE": "/etc/receiver/tables/tables.yaml"})
    stack.compose(DEMO, "up", "--detach")
    query = "SET ROLE grafana; SELECT count(*) FROM seen"
    psql = ("psql", "-X", "-A", "-t", "-q", "-U", "receiver", "-d", "receiver", "-c", query)

    async def is_filled() -> bool:
        return int(stack.compose("exec", "-T", "timescaledb", *psql)) > 0

    await until(is_filled, 60)


@pytest.mark.parametrize("name", ["webhook", "email", "slack"])
def test_alertmanager_of_the_stack_accepts_each_receiver(stack: Stack, name: str) -> None:
    from tests.unit.test_alertmanager import chosen  # noqa: PLC0415  reads its file at import

    Path(stack.directory / "deploy/alertmanager/chosen.yml").write_text(chosen(name))
    (stack.directory / "deploy/alertmanager/chosen.yml").chmod(0o644)
    shown = stack.compose(
        "exec", "-T", "alertmanager", "amtool", "check-config", "/etc/alertmanager/chosen.yml"
    )
    assert "2 receivers" in shown


async def test_down_leaves_nothing_behind_but_the_volumes(stack: Stack) -> None:
    await asyncio.to_thread(stack.compose, DEMO, "down")
    assert stack.services() == set()
