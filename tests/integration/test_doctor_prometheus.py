"""Findings of `receiver doctor` from the API of a Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from receiver.doctor.prometheus import diagnose
from receiver.doctor.table_series import TableSeries
from receiver.storage.diagnosis.findings import Finding, Level
from tests.conftest import MakeSettings
from tests.faults.processes import free_port
from tests.programs import require_program
from tests.tables import catalogue, write_tables

URL = "http://receiver.example:9201/api/v1/write"
READ_URL = "http://receiver.example:9201/api/v1/read"
NOW = 1_700_000_000
WELL = {
    "highest_timestamp_in_seconds": NOW,
    "queue_highest_sent_timestamp_seconds": NOW - 5,
    "samples_pending": 3,
    "samples_failed_total": 0,
    "samples_retried_total": 0,
    "shards": 1,
    "shards_desired": 0.1,
    "shards_max": 8,
}
SERIES = {
    'count({__name__="app_status"})': 3,
    'count({__name__="ocr_value"})': 3,
}


def exposition(values: Mapping[str, float], url: str = URL) -> str:
    """Return Prometheus' own metrics; the first one belongs to no queue."""
    lines = []
    for name, value in values.items():
        metric = f"prometheus_remote_storage_{name}"
        kind = "counter" if name.endswith("_total") else "gauge"
        labels = "" if name.startswith("highest") else f'{{remote_name="a",url="{url}"}}'
        lines += [f"# TYPE {metric} {kind}", f"{metric}{labels} {value}"]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def prometheus(
    remote_write: object = None,
    metrics: str = "",
    series: Mapping[str, int] = SERIES,
    targets: object = None,
    external_labels: Mapping[str, str] = MappingProxyType({}),
    remote_read: Sequence[Mapping[str, object]] = (MappingProxyType({"url": READ_URL}),),
    read_warnings: Sequence[str] = (),
) -> AsyncIterator[str]:
    """Serve the API of a Prometheus."""

    def data(value: object) -> web.Response:
        return web.json_response({"status": "success", "data": value})

    async def buildinfo(_: web.Request) -> web.Response:
        return data({"version": "3.7.3"})

    async def config(_: web.Request) -> web.Response:
        content = {"global": {"external_labels": dict(external_labels)}} | (
            {"remote_write": remote_write} if remote_write else {}
        )
        if remote_read:
            content["remote_read"] = [with_defaults(dict(one)) for one in remote_read]
        return data({"yaml": yaml.safe_dump(content)})

    async def query(request: web.Request) -> web.Response:
        if request.query.get("time") == "1":
            # Prometheus sends no query without the required matchers.
            required = dict(remote_read[0]).get("required_matchers", {})
            assert isinstance(required, dict)
            labels = {"__name__": "app_status", **required}
            wanted = ",".join(f'{name}="{value}"' for name, value in labels.items())
            assert request.query["query"] == f"{{{wanted}}}"
            empty = {"resultType": "vector", "result": []}
            return web.json_response(
                {"status": "success", "data": empty, "warnings": list(read_warnings)}
            )
        number = series.get(request.query["query"], 0)
        result = [{"metric": {}, "value": [NOW, str(number)]}] if number else []
        return data({"resultType": "vector", "result": result})

    async def expose(_: web.Request) -> web.Response:
        return web.Response(text=metrics)

    async def scraped(request: web.Request) -> web.Response:
        assert request.query["state"] == "active"
        return data({"activeTargets": targets})

    app = web.Application()
    if targets is not None:
        app.router.add_get("/prefix/api/v1/targets", scraped)
    app.router.add_get("/prefix/api/v1/status/buildinfo", buildinfo)
    app.router.add_get("/prefix/api/v1/status/config", config)
    app.router.add_get("/prefix/api/v1/query", query)
    app.router.add_get("/prefix/metrics", expose)
    async with TestServer(app) as server:
        yield str(server.make_url("/prefix/"))


def with_defaults(read: dict[str, object]) -> dict[str, object]:
    """Return the entry as Prometheus shows it, which omits false values."""
    if read.get("filter_external_labels", True):
        return {**read, "filter_external_labels": True}
    del read["filter_external_labels"]
    return read


async def found_at(url: str, make_settings: MakeSettings, **more: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    async for topic, finding in diagnose(url, make_settings(listen="0.0.0.0:9201", **more)):
        found.setdefault(topic, []).append(finding)
    return found


def remote(url: str = URL, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"url": url, "write_relabel_configs": list(rules)}


def rule(action: str, regex: str, *labels: str) -> dict[str, Any]:
    return {"action": action, "regex": regex, "source_labels": list(labels or ["__name__"])}


async def test_all_is_well(make_settings: MakeSettings) -> None:
    keep = rule("keep", "app_status|ocr_value")
    async with prometheus([remote(URL, keep)], exposition(WELL)) as url:
        found = await found_at(url, make_settings)
    assert {finding.level for findings in found.values() for finding in findings} == {Level.OK}
    assert found.keys() == {"prometheus", "remote_write", "remote_read", "queue", "metrics"}
    assert found["remote_write"][0].found == f"remote_write goes to {URL}"


@pytest.mark.parametrize(
    ("remotes", "level", "message"),
    [
        (None, Level.PROBLEM, "no remote_write → in prometheus.yml: url: http://HOST:9201/api/v1"),
        ([remote("http://h:9090/api/v1/write")], Level.WARNING, "goes to http://h:9090/api"),
        ([remote("http://h:9201/receive")], Level.WARNING, "does not look like this receiver"),
        ([remote("http://h/api/v1/write"), remote()], Level.OK, f"goes to {URL}"),
        ([remote("http://u:hunter2@h:9201/api/v1/write?k=hunter2")], Level.OK, "//h:9201/api"),
    ],
)
async def test_where_it_sends(
    make_settings: MakeSettings, remotes: object, level: Level, message: str
) -> None:
    async with prometheus(remotes) as url:
        found = await found_at(url, make_settings)
    (finding,) = found["remote_write"]
    assert finding.level is level
    assert message in f"{finding.found} → {finding.advice}"
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("rules", "dropped"),
    [
        ([rule("keep", "app_status")], ["ocr_value"]),
        ([rule("keep", "app|ocr")], ["app_status", "ocr_value"]),
        ([rule("drop", "app_.*")], ["app_status"]),
        ([rule("drop", "app")], []),
        # RE2 syntax, which Python's `re` does not have.
        ([rule("keep", r"(?i)APP_STATUS|OCR_VALUE")], []),
        ([rule("keep", r"\pL+_\pL+")], []),
        ([rule("keep", "[[:alpha:]]+_[[:alpha:]]+")], []),
        ([rule("keep", "(?U)app_status|ocr_value")], []),
        ([rule("keep", r"app_status\z|ocr_value\z")], []),
        ([rule("keep", r"\Qapp_status\E|ocr_value")], []),
        ([rule("drop", r"(?P<x>app|ocr)_(?P<y>.*)")], ["app_status", "ocr_value"]),
        ([rule("Drop", r"app\C+")], ["app_status"]),
        ([{"action": "keep", "regex": ["app_status", "ocr_.*"], "source_labels": "__name__"}], []),
        ([rule("keep", "x", "job")], []),
        ([rule("replace", "x")], []),
    ],
)
async def test_relabeling_that_drops_a_metric(
    make_settings: MakeSettings, rules: list[dict[str, Any]], dropped: list[str]
) -> None:
    async with prometheus([remote(URL, *rules)]) as url:
        found = (await found_at(url, make_settings)).get("relabeling", [])
    assert [finding.found.split()[-1] for finding in found] == dropped
    assert all(finding.level is Level.PROBLEM for finding in found)


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({"highest_timestamp_in_seconds": NOW + 7200}, Level.PROBLEM, "2h behind, 3 samples"),
        ({"queue_highest_sent_timestamp_seconds": 0}, Level.PROBLEM, "nothing has been sent yet"),
        ({"samples_failed_total": 12}, Level.WARNING, "12 samples lost"),
        ({"samples_retried_total": 7}, Level.NOTE, "7 samples retried"),
        ({"shards_desired": 9.5}, Level.WARNING, "needs 10 shards, the maximum is 8"),
        # Nothing new has been scraped: not the queue's fault.
        ({"highest_timestamp_in_seconds": NOW + 7200, "samples_pending": 0}, Level.OK, "1 shard, "),
    ],
)
async def test_a_queue(
    make_settings: MakeSettings, changed: dict[str, float], level: Level, message: str
) -> None:
    async with prometheus([remote()], exposition(WELL | changed)) as url:
        found = await found_at(url, make_settings)
    (finding,) = found["queue"]
    assert (finding.level, message in finding.found) == (level, True), finding


async def test_a_newer_prometheus_has_no_metric_for_all_queues(
    make_settings: MakeSettings,
) -> None:
    values = {**WELL, "queue_highest_timestamp_seconds": NOW + 7200}
    del values["highest_timestamp_in_seconds"]
    async with prometheus([remote()], exposition(values)) as url:
        found = await found_at(url, make_settings)
    assert "2h behind" in found["queue"][0].found


async def test_another_receivers_queue_is_not_ours(make_settings: MakeSettings) -> None:
    other = "http://h:9090/api/v1/write"
    metrics = exposition(WELL | {"samples_failed_total": 12}, other)
    async with prometheus([remote(other), remote()], metrics) as url:
        found = await found_at(url, make_settings)
    assert "queue" not in found


@pytest.mark.parametrize(
    ("series", "level", "message"),
    [
        ({}, Level.PROBLEM, "no series app_status now"),
        ({'count({__name__="app_status"})': 3}, Level.PROBLEM, "no series ocr_value now"),
        (
            {**SERIES, 'count({__name__="app_status"} unless {__name__="ocr_value"})': 2},
            Level.WARNING,
            "2 of 3 series app_status have no ocr_value with the same labels",
        ),
        (SERIES, Level.OK, "3 series app_status, each with its ocr_value"),
    ],
)
async def test_the_two_metrics(
    make_settings: MakeSettings, series: dict[str, int], level: Level, message: str
) -> None:
    async with prometheus([remote()], series=series) as url:
        found = await found_at(url, make_settings)
    assert (found["metrics"][0].level, message in found["metrics"][0].found) == (level, True)


PRESSURE = '{__name__="press_pressure_bar",job=~"plc",line=~"A|B"}'
SENSORS = '{__name__="press_pressure_bar",job=~"plc",line=~"A|B",sensor=~".+"}'
RUNNING = '{__name__="press_running",job=~"plc",line=~"A|B"}'
STROKES = '{__name__="press_strokes_total",job=~"plc",line=~"A|B"}'
FITTING = {
    **SERIES,
    **{f"count({name})": 4 for name in (PRESSURE, RUNNING, STROKES)},
    **{f'count({{__name__="robot_{name}"}})': 2 for name in ("state", "note", "seen_ms")},
}


@pytest.mark.parametrize(
    ("changed", "level", "message"),
    [
        ({}, Level.OK, "press_readings: 4 series press_pressure_bar, each with its press_running"),
        (
            {f"count({RUNNING})": 0},
            Level.PROBLEM,
            f"Prometheus has no series {RUNNING} now, so press_readings gets no rows",
        ),
        (
            {f"count({STROKES})": 0},
            Level.NOTE,
            f"no series {STROKES} now, so column strokes of press_readings stays NULL",
        ),
        (
            {f"count({RUNNING} unless ignoring(sensor) {PRESSURE})": 3},
            Level.WARNING,
            "press_readings: 3 of 4 series press_running have no press_pressure_bar with the same",
        ),
        (
            {f"count(count without(sensor) ({SENSORS}) > 1)": 2},
            Level.WARNING,
            "press_readings: 2 rows with several series press_pressure_bar that differ only in ",
        ),
        (
            {'count({__name__="robot_state"})': 0},
            Level.PROBLEM,
            "no series robot_state now, so robots gets no rows",
        ),
    ],
)
async def test_the_metrics_of_every_table(
    make_settings: MakeSettings,
    tmp_path: Path,
    changed: dict[str, int],
    level: Level,
    message: str,
) -> None:
    tables = write_tables(tmp_path)
    async with prometheus([remote()], series={**FITTING, **changed}) as url:
        found = (await found_at(url, make_settings, tables_file=tables))["metrics"]
    (finding,) = [finding for finding in found if message in finding.found]
    assert finding.level is level
    assert {one.level for one in found} <= {Level.OK, level}
    assert ("app_logs: 3 series app_status, each with its ocr_value") in found[0].found


async def test_labels_that_are_added_are_not_looked_for(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    tables = write_tables(tmp_path)
    series = {name.replace('job=~"plc",', ""): count for name, count in FITTING.items()}
    added = {"job": "plc"}
    async with prometheus([remote()], series=series, external_labels=added) as url:
        found = (await found_at(url, make_settings, tables_file=tables))["metrics"]
    assert {finding.level for finding in found} == {Level.OK}


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    promtool = require_program("promtool")
    tables = catalogue(
        "tables: {t: {match: {a: 'x\\d|\"'}, ignoring: [b, c], columns: {"
        + ", ".join(f"c{n}: {{metric: 'm:{n}', type: double}}" for n in range(4))
        + "}}}"
    ).tables
    series = TableSeries(tables[0], ())
    expressions = [
        expression
        for column in series.required
        for expression in (series.select(column), series.alone(column), series.several(column))
    ]
    rules = [{"record": f"r:{n}", "expr": text} for n, text in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    ran = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


async def test_what_is_no_prometheus(make_settings: MakeSettings) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.router.add_get("/api/v1/status/buildinfo", answer)
    async with TestServer(app) as server:
        found = await found_at(str(server.make_url("/")), make_settings)
        elsewhere = await found_at(str(server.make_url("/elsewhere")), make_settings)
    assert found["prometheus"][0].found == "the server that answers is not Prometheus"
    assert "answers 404 to /api/v1/status/buildinfo" in elsewhere["prometheus"][0].found
    assert found.keys() == elsewhere.keys() == {"prometheus"}


async def test_a_rule_that_nobody_can_read(make_settings: MakeSettings) -> None:
    rules = [
        rule("drop", "app_status(?!x)"),
        rule("drop", "(" * 10_000),
        rule("drop", "a{1000000}"),
    ]
    for bad in rules:
        async with prometheus([remote(URL, bad)]) as url:
            found = (await found_at(url, make_settings))["relabeling"]
        assert {finding.level for finding in found} == {Level.WARNING}
        assert "not a regular expression of RE2: " in found[0].found
        assert len(found[0].found) < 400


def target(url: str, health: str, error: str = "") -> dict[str, str]:
    return {"scrapeUrl": url, "health": health, "lastError": error}


async def test_targets_that_are_down_are_named(make_settings: MakeSettings) -> None:
    targets = [
        target("http://a:1/metrics", "up"),
        target("http://u:hunter2@b:1/metrics?k=hunter2", "down", "connection\nrefused \x1b[2J"),
        *(target(f"http://c{n}:1/metrics", "down", "x" * 1000) for n in range(9)),
        target("http://d:1/metrics", "unknown"),
    ]
    async with prometheus([remote()], targets=targets) as url:
        (finding,) = (await found_at(url, make_settings))["targets"]
    assert finding.level is Level.WARNING
    start = "10 of 12 targets are down: http://b:1/metrics (connection refused [2J), http://c0:1/"
    assert finding.found.startswith(start)
    assert "hunter2" not in finding.found
    assert len(finding.found) < 1000
    async with prometheus([remote()], targets=targets[:1]) as url:
        assert "targets" not in await found_at(url, make_settings)


DEEP = "[" * 100_000
ODD = {
    "nothing": "",
    "HTML": "<html>login</html>",
    "deep JSON": DEEP,
    "deep data": '{"status":"success","data":' + DEEP,
    "null": "null",
    "a list": "[]",
    "data is null": '{"status":"success","data":null}',
    "data is text": '{"status":"success","data":"x"}',
    "data is empty": '{"status":"success","data":{}}',
    "half a surrogate pair": r'{"data":{"version":"\ud800","yaml":"\ud800"}}',
    "an error": '{"status":"error","error":"no \\u001b[2J such thing"}',
    "a scalar": '{"data":{"resultType":"scalar","result":[1,"2"]}}',
    "no numbers": '{"data":{"result":[{"metric":{},"value":[1,"many"],"values":[[1,"x"]]}]}}',
    "not finite": '{"data":{"result":[{"metric":{},"value":[NaN,"NaN"],"values":[[1e999,"1"]]}]}}',
    "YAML is none": '{"data":{"yaml":"a: [}","version":"1"}}',
    "YAML is deep": '{"data":{"yaml":"' + "[" * 10_000 + '","version":"1"}}',
    "YAML is a comment": '{"data":{"yaml":"#TODO","version":"1"}}',
    "YAML is a list": '{"data":{"yaml":"[1, 2]","version":"1"}}',
    "YAML loops": '{"data":{"yaml":"&a {global: *a, remote_write: [*a]}","version":"1"}}',
    "YAML of other things": '{"data":{"yaml":"{global: 5, remote_write: {}}","version":"1"}}',
    "YAML without values": r'{"data":{"yaml":"global:\nremote_write:\n","version":"1"}}',
    "a URL that is none": r'{"data":{"yaml":"remote_write: [{url: \"http://[:/\"}]","version":"1"}}',
    "huge": '{"data":"' + "x" * (17 << 20) + '"}',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_whatever_answers_there_each_finding_is_one_line(
    make_settings: MakeSettings, odd: str
) -> None:
    """Whether it answers everything like that, or first identifies itself as a Prometheus."""

    async def answer(request: web.Request) -> web.Response:
        good = '{"status":"success","data":{"version":"2.9"}}'
        hides = request.path.startswith("/hidden") and request.path.endswith("buildinfo")
        return web.Response(text=good if hides else odd)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        for place in ("/", "/hidden"):
            found = await found_at(str(server.make_url(place)), make_settings)
            assert found
            for finding in (finding for findings in found.values() for finding in findings):
                assert finding.found.isprintable(), finding
                assert len(finding.found) < 400


async def test_redirects_end(make_settings: MakeSettings) -> None:
    async def around(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query.get("to", request.path))

    app = web.Application()
    app.router.add_get("/{path:.*}", around)
    async with TestServer(app) as server:
        found = await found_at(str(server.make_url("/")), make_settings)
    assert "cannot be reached" in found["prometheus"][0].found
    assert found["prometheus"][0].found.isprintable()


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "\u200b", "[::1%25x]"])
async def test_a_host_that_is_none(make_settings: MakeSettings, host: str) -> None:
    found = await found_at(f"http://{host}:1", make_settings)
    assert "cannot be reached" in found["prometheus"][0].found


async def test_a_port_at_which_nobody_listens(make_settings: MakeSettings) -> None:
    found = await found_at(f"http://127.0.0.1:{free_port()}", make_settings)
    said = found["prometheus"][0].found
    assert "Cannot connect to host 127.0.0.1:" in said
    assert "ssl" not in said


REFUSED = "remote_read: remote server returned HTTP status 422 (RECEIVER_MAX_REMOTE_READ_SERIES)"


@pytest.mark.parametrize(
    ("remotes", "warnings", "level", "message"),
    [
        ([], [], Level.NOTE, "no remote_read"),
        ([], [], Level.NOTE, "url: http://HOST:9201/api/v1/read"),
        ([{"url": "http://h:9090/api/v1/read"}], [], Level.NOTE, "from http://h:9090/api/v1/read"),
        ([{"url": "http://h:9201/api/v1/write"}], [], Level.NOTE, "does not look like this"),
        ([{"url": "http://h:9201/api/v1/read"}], [], Level.OK, "from http://h:9201/api/v1/read"),
        ([{"url": "http://h:9201/api/v1/read"}], [REFUSED], Level.WARNING, REFUSED),
    ],
)
async def test_remote_read(
    make_settings: MakeSettings,
    remotes: list[dict[str, object]],
    warnings: list[str],
    level: Level,
    message: str,
) -> None:
    async with prometheus(
        [remote()], exposition(WELL), remote_read=remotes, read_warnings=warnings
    ) as url:
        (finding,) = (await found_at(url, make_settings))["remote_read"]
    assert finding.level is level
    assert message in f"{finding.found} → {finding.advice}"


@pytest.mark.parametrize(
    ("read", "rules", "level", "message"),
    [
        ({}, [], Level.OK, 'for series with site="seoul" (external_labels)'),
        ({"filter_external_labels": False}, [], Level.OK, "/api/v1/read"),
        ({"required_matchers": {"old": "yes"}}, [], Level.OK,
         'by queries with old="yes" (required_matchers)'),
        ({}, [("labeldrop", "si.e")], Level.WARNING, "write_relabel_configs drop site"),
        ({}, [("labelkeep", "instance|job")], Level.WARNING, "filter_external_labels: false"),
        ({"filter_external_labels": False}, [("labeldrop", "site")], Level.OK, "/api/v1/read"),
        ({}, [("labeldrop", "sit")], Level.OK, "external_labels"),
        ({}, [("labelkeep", "s.*")], Level.OK, "external_labels"),
        ({}, [("labeldrop", "(")], Level.OK, "external_labels"),
        ({}, [("drop", "site")], Level.OK, "external_labels"),
    ],
)  # fmt: skip
async def test_what_remote_read_asks_for(
    make_settings: MakeSettings,
    read: dict[str, object],
    rules: list[tuple[str, str]],
    level: Level,
    message: str,
) -> None:
    async with prometheus(
        [remote(URL, *({"action": action, "regex": regex} for action, regex in rules))],
        exposition(WELL),
        external_labels={"site": "seoul"},
        remote_read=[{"url": READ_URL, **read}],
    ) as url:
        (finding,) = (await found_at(url, make_settings))["remote_read"]
    assert finding.level is level
    assert message in f"{finding.found} → {finding.advice}"
    assert ("external_labels" in finding.found) is ("filter_external_labels" not in read)


async def test_remote_read_needs_credentials(make_settings: MakeSettings) -> None:
    async with prometheus([remote()], exposition(WELL)) as url:
        (finding,) = (await found_at(url, make_settings, bearer_token="a"))["remote_read"]
    assert finding.level is Level.PROBLEM
    assert "sends no credentials" in finding.found
