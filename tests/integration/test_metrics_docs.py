"""docs/metrics.md lists exactly the metrics that `/metrics` exposes, with their labels."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.rows.reasons import Fate, Reason
from tests.conftest import MakeSettings
from tests.metrics import exposed
from tests.receivers import Running, receiving
from tests.waiting import until

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(receiver_\w+)` \|([^|]*)\| [^|]{3,} \|$", re.MULTILINE)
NEWEST = "receiver_source_newest_sample_timestamp_seconds"


async def send_and_expose(receiver: Running) -> str:
    now = int(time.time() * 1000)
    for name in ("app_status", "ocr_value"):
        await receiver.send(({"__name__": name, "instance": "a", "job": "j"}, now, 1.0))

    async def told() -> bool:
        return NEWEST + "{" in (await receiver.get("/metrics"))[1]

    await until(told)
    return (await receiver.get("/metrics"))[1]


@pytest.mark.parametrize("name", ["metrics.md", "metrics.ko.md"])
async def test_the_table_names_every_metric(
    database_url: str, make_settings: MakeSettings, name: str
) -> None:
    settings = make_settings(database_url=database_url, maintenance_interval="100ms")
    async with receiving(settings) as receiver:
        text = await send_and_expose(receiver)
    shown = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in text_string_to_metric_families(text)
        if family.name.startswith("receiver_")
    }
    rows = ROW.findall((DOCS / name).read_text())
    described = {metric: set(re.findall(r"`(\w+)`", labels)) for metric, labels in rows}
    assert described == shown
    assert len(rows) == len(described)


@pytest.mark.parametrize("name", ["metrics.md", "metrics.ko.md"])
async def test_the_table_names_every_outcome(make_settings: MakeSettings, name: str) -> None:
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with receiving(settings, wait=False) as receiver:
        counted = exposed((await receiver.get("/metrics"))[1])
    shown = {match[1] for series in counted if (match := re.search(r'outcome="(\w+)"', series))}
    reasons = {match[1] for series in counted if (match := re.search(r'reason="(\w+)"', series))}
    outcomes = re.findall(r"^\| `([a-z]+)` \| [^|]+ \|$", (DOCS / name).read_text(), re.MULTILINE)
    assert set(outcomes) - {"outcome"} == shown >= set(Fate)
    assert reasons == set(Reason) - {Reason.UNPAIRED}
