"""The dashboard without a database: how it fits Grafana, Prometheus and the stack."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana import DASHBOARD, REPORT, ROOT, queries
from tests.programs import require_program

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMQL = list(queries("prometheus"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def provisioned() -> dict[str, dict[str, Any]]:
    """The data sources, by their uid."""
    content = yaml.safe_load((ROOT / "deploy/grafana/datasources.yml").read_text())
    return {source["uid"]: source for source in content["datasources"]}


def test_every_query_has_a_provisioned_source_of_its_type() -> None:
    sources = {uid: source["type"] for uid, source in provisioned().items()}
    named = [target["datasource"] for panel in PANELS for target in panel["targets"]]
    named += [panel["datasource"] for panel in PANELS]
    named += [variable["datasource"] for variable in DASHBOARD["templating"]["list"]]
    assert {source["uid"] for source in named} == set(sources)
    assert all(sources[source["uid"]] == source["type"] for source in named)


def test_the_sources_are_services_of_the_stack() -> None:
    logs, prometheus = provisioned()["receiver-logs"], provisioned()["receiver-prometheus"]
    environment = COMPOSE["services"]["timescaledb"]["environment"]
    assert logs["url"].partition(":")[0] in COMPOSE["services"]
    assert logs["jsonData"]["database"] == environment["POSTGRES_DB"]
    major = COMPOSE["services"]["timescaledb"]["image"].rpartition("-pg")[2]
    assert logs["jsonData"]["postgresVersion"] == int(major) * 100
    assert f"ROLE {logs['user']};" in (ROOT / "deploy/grafana/role.sql").read_text()
    assert prometheus["url"] == "http://prometheus:9090"


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    grafana = COMPOSE["services"]["grafana"]
    mounted = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    shown = mounted["./deploy/grafana/receiver.json"]
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards.yml").read_text())["providers"]
    assert str(Path(shown).parent) == provider["options"]["path"]
    assert Path(mounted["./deploy/grafana/report.json"]).parent == Path(shown).parent
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == shown


@pytest.mark.parametrize("dashboard", [DASHBOARD, REPORT], ids=["receiver", "report"])
def test_panels_are_told_apart_explained_and_beside_each_other(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")
    taken = [
        (x, y)
        for position in (panel["gridPos"] for panel in panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    promtool = require_program("promtool")
    rules = [
        {"record": f"panel:{place}", "expr": query.target["expr"].replace("$__rate_interval", "1m")}
        for place, query in enumerate(PROMQL)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(PROMQL)} rules found" in checked.stdout
