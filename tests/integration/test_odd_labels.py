"""Label sets of any size and any JSON, as older receivers and manual changes have left them."""

from __future__ import annotations

import copy
import json
import re
from datetime import timedelta
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pytest

from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.storage import diagnosis
from receiver.storage.diagnosis.findings import Level
from receiver.storage.reading import logs, rejected, sources, states
from receiver.storage.reading.observing import newest_rows
from receiver.storage.reading.tables import connect
from tests.cluster import keep_keys
from tests.conftest import MakeSettings
from tests.pages import showing
from tests.rows import LOGS
from tests.waiting import until

LARGE = {"…": "a size"}
MANY = {"label": "and others"}

# The stored label set, and the one that the page shows for it.
ODD = {
    "a label of 30 MiB": (
        "jsonb_build_object('instance', repeat('A', 30 * 1024 * 1024))",
        LARGE,
    ),
    "a label that compression does not shrink": (
        "jsonb_build_object('job', (SELECT string_agg(sha512(i::text::bytea)::text, '') "
        "FROM generate_series(1, 8000) AS i))",
        LARGE,
    ),
    "a name of 1 MiB": ("jsonb_build_object(repeat('n', 1024 * 1024), 1)", {"n" * 100: "1"}),
    "thousands of labels": (
        "(SELECT jsonb_object_agg('label_' || i, i) FROM generate_series(1, 5000) AS i)",
        MANY,
    ),
    "nested values": (
        """'{"job": {"a": [1, {"b": null}]}, "instance": null, "c": true}'""",
        {"job": '{"a": [1, {"b": null}]}', "instance": "null", "c": "true"},
    ),
    "an array": ("""'["job", "instance"]'""", {"…": '["job", "instance"]'}),
    "a text": ("""'"instance"'""", {"…": '"instance"'}),
    "a number": ("'17'", {"…": "17"}),
    "null": ("'null'", {"…": "null"}),
    "no labels": ("'{}'", {}),
}
ADD = """
INSERT INTO sources (labels, digest) SELECT ({})::jsonb, $1;
"""
FILL = """
INSERT INTO app_logs (source_id, created_at, app_status, ocr_value)
SELECT id, now() - i * INTERVAL '1 s', 0, now() FROM sources, generate_series(1, 3) AS i;
INSERT INTO rejected_samples (source_id, metric, timestamp_ms, value, reason, table_name)
SELECT id, 'app_status', 0, 0.5, 'not_whole', 'app_logs' FROM sources;
INSERT INTO pending_rows (table_name, source_id, created_at, samples)
SELECT 'app_logs', id, now() - INTERVAL '20 min', '{"app_status": "0"}' FROM sources;
"""


@pytest.fixture
async def settings(database_url: str, make_settings: MakeSettings) -> Settings:
    """Settings for a database with only odd sources."""
    connection = await asyncpg.connect(database_url)
    for name, (labels, _) in ODD.items():
        await connection.execute(ADD.format(labels), name.encode())
    await connection.execute(FILL)
    await keep_keys(connection)
    await connection.close()
    return make_settings(database_url=database_url)


async def test_a_bounded_part_is_shown(settings: Settings) -> None:
    async with connect(settings) as connection:
        known = await sources.first_sources(connection, 100)
        newest = await states.read_states(connection, LOGS, {})
        wanted = logs.Filter("-infinity", "now")
        page = await logs.Logs(LOGS).page(connection, wanted, logs.NEWEST, 100)
        aside = await rejected.rejected(connection, rejected.NEWEST, 100)
    for (name, (_, expected)), given in zip(ODD.items(), known.values(), strict=True):
        labels = copy.copy(given)
        if expected is LARGE:
            assert re.fullmatch(r"\d+ kB", labels.pop("…")), name
            assert not labels
        elif expected is MANY:
            assert len(labels) == 20, name
        else:
            assert labels == expected, name
        assert all(len(text) <= 200 for pair in labels.items() for text in pair)
    shown = [
        *(source.labels for source in newest),
        *(log.labels for log in page.logs),
        *(sample.labels for sample in aside.samples),
    ]
    assert len(shown) == len(ODD) * 5
    assert all(labels in known.values() for labels in shown)


async def test_metrics_carry_a_bounded_part(settings: Settings) -> None:
    async with connect(settings) as connection:
        await connection.execute("SET plan_cache_mode = force_custom_plan")
        newest = await connection.fetch(newest_rows(LOGS), 300, timedelta(days=1))
    assert len(newest) == len(ODD)
    assert all(len(text) <= 100 for _, job, instance, _ in newest for text in (job, instance))


async def test_every_page_and_the_metrics_answer(settings: Settings) -> None:
    async with showing(settings) as receiver:
        await until(receiver.ready)

        async def observed() -> bool:
            text = (await receiver.get("/metrics"))[1]
            return text.count("receiver_source_newest_sample_timestamp_seconds{") == len(ODD)

        await until(observed)
        for page in ("/", "/?after=5", "/logs", "/logs?source=1", "/rejected", "/codes"):
            status, text = await receiver.get(page)
            assert status == 200
            assert len(text) < 200_000


async def test_doctor_looks_past_them(settings: Settings) -> None:
    found = [finding async for _, finding in diagnosis.diagnose(settings)]
    assert not [finding for finding in found if "could not be checked" in finding.found]
    assert not [finding for finding in found if finding.level is Level.PROBLEM]


async def test_an_export_goes_past_them(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in ("csv", "parquet"):
        file = tmp_path / f"all.{kind}"
        parsed = build_parser("export")[0].parse_args(["export", "-o", str(file)])
        assert await load_command("export").run(settings, parsed) == 0
        assert file.stat().st_size < 1024 * 1024
        assert "4 sources with labels of more than 64 KiB left out" in capfd.readouterr().err
    labels = [json.loads(text) for text in pq.read_table(file).column("labels").to_pylist()]
    assert len(labels) == 3 * len(ODD)
    assert labels.count({"…": "too large"}) == 12
    assert ["job", "instance"] in labels
