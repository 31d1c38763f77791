"""Remote read over HTTP, from a real database."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from receiver.protocol.generated import remote_read_pb2 as messages
from tests.cluster import keep_keys
from tests.conftest import MakeSettings
from tests.messages import NOW, bits
from tests.reading import Labels, Result, named, query, read, request
from tests.receivers import Point, Running, receiving
from tests.tables import CAMERA, PRESS, ROBOT, camera, press, robot, write_tables
from tests.timescale import FIND_VERSION, compress, require_compression

EVERYTHING = query(("__name__", "=~", ".+"))
# Labels without those that `ignoring` removes.
NEWER = {**PRESS, "instance": "plc-2", "line": "B"}
METRICS = {
    "app_status": CAMERA,
    "ocr_value": CAMERA,
    "press_pressure_bar": PRESS,
    "press_running": PRESS,
    "press_strokes_total": PRESS,
    "robot_note": ROBOT,
    "robot_state": ROBOT,
}
"""All metrics that have samples, each with the labels of its source."""


@pytest.fixture
async def receiver(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[Running]:
    settings = make_settings(database_url=database_url, tables_file=write_tables(tmp_path))
    async with receiving(settings) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["SAMPLES", "STREAMED_XOR_CHUNKS"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def labelled(name: str, source: Mapping[str, str] | None = None) -> Labels:
    return tuple(sorted({**(source or METRICS[name]), "__name__": name}.items()))


async def find(receiver: Running, wanted: messages.Query, *, streamed: bool = False) -> Result:
    (result,) = (await read(receiver, request(wanted, streamed=streamed))).results()
    return result


async def fill(receiver: Running) -> None:
    """Send one or two rows to each table."""
    await receiver.send(
        *camera(NOW, 2),
        *press(NOW, 1.5, 1, strokes=7),
        *press(NOW + 1000, 2.5, 0),
        *robot(NOW, 3, note=1),
    )


async def test_samples_come_back_as_they_were(receiver: Running, streamed: bool) -> None:
    times = [NOW + 5000 * place for place in range(500)]
    await receiver.send(*(point for at in times for point in camera(at, at // 5000 % 3)))
    body = request(named("app_status"), named("ocr_value"), streamed=streamed)
    status, ocr = (await read(receiver, body)).results(2)
    assert status == [(labelled("app_status"), [(time, time // 5000 % 3) for time in times])]
    assert ocr == [(labelled("ocr_value"), [(time, time / 1000) for time in times])]


async def test_every_metric_column_is_a_series(receiver: Running, streamed: bool) -> None:
    await fill(receiver)
    assert await find(receiver, EVERYTHING, streamed=streamed) == [
        (labelled("app_status"), [(NOW, 2)]),
        (labelled("ocr_value"), [(NOW, NOW / 1000)]),
        (labelled("press_pressure_bar"), [(NOW, 1.5), (NOW + 1000, 2.5)]),
        (labelled("press_running"), [(NOW, 1), (NOW + 1000, 0)]),
        # The second row has no value for it.
        (labelled("press_strokes_total"), [(NOW, 7)]),
        (labelled("robot_note"), [(NOW, 1)]),
        (labelled("robot_state"), [(NOW, 3)]),
    ]


@pytest.mark.parametrize(
    ("matchers", "metrics"),
    [
        ([("__name__", "=", "app_status")], {"app_status"}),
        ([("__name__", "!=", "app_status"), ("job", "=", "camera")], {"ocr_value"}),
        ([("__name__", "=~", "app_status|robot_.*")], {"app_status", "robot_note", "robot_state"}),
        ([("__name__", "=~", "status")], set()),
        ([("__name__", "!~", "(app|press|robot)_.*")], {"ocr_value"}),
        ([("__name__", "=", "up")], set()),
        ([("job", "=", "robot")], {"robot_note", "robot_state"}),
        ([("job", "=~", "rob.t|camera"), ("__name__", "!~", ".*_(note|value)")],
         {"app_status", "robot_state"}),
        ([("job", "!~", "rob.t|camera"), ("__name__", "=~", ".*total")], {"press_strokes_total"}),
        # Anchored at both ends.
        ([("job", "=~", "rob")], set()),
        ([("job", "=~", "obot")], set()),
        # A missing label equals an empty one.
        ([("line", "=", ""), ("__name__", "=~", "app_status|press_running")], {"app_status"}),
        ([("line", "!=", ""), ("__name__", "=~", "app_status|press_running")], {"press_running"}),
        ([("line", "=~", ".+"), ("__name__", "=~", "app_status|press_running")], {"press_running"}),
        ([("line", "=~", ".*"), ("__name__", "=~", "app_status|press_running")],
         {"app_status", "press_running"}),
        ([("line", "!~", "A"), ("__name__", "=~", "app_status|press_running")], {"app_status"}),
        ([("line", "!~", ".+"), ("__name__", "=~", "app_status|press_running")], {"app_status"}),
        ([("nothing", "=", ""), ("__name__", "=", "ocr_value")], {"ocr_value"}),
        ([("nothing", "!=", ""), ("__name__", "=", "ocr_value")], set()),
        # Several matchers on the same label.
        ([("job", "!=", "robot"), ("job", "!=", "plc"), ("__name__", "!=", "ocr_value")],
         {"app_status"}),
        ([], set(METRICS)),
    ],
)  # fmt: skip
async def test_matchers(
    receiver: Running, matchers: list[tuple[str, str, str]], metrics: set[str]
) -> None:
    await fill(receiver)
    found = await find(receiver, query(*matchers))
    assert [labels for labels, _ in found] == [labelled(name) for name in sorted(metrics)]


async def test_results_stand_in_the_order_of_the_queries(receiver: Running, streamed: bool) -> None:
    await fill(receiver)
    queries = [named("up"), named("robot_state"), named("app_status"), named("up"), named("up")]
    answer = await read(receiver, request(*queries, streamed=streamed))
    names = [[dict(labels)["__name__"] for labels, _ in one] for one in answer.results(5)]
    assert names == [[], ["robot_state"], ["app_status"], [], []]


async def test_a_request_without_queries(receiver: Running, streamed: bool) -> None:
    answer = await read(receiver, request(streamed=streamed))
    assert answer.results(0) == []


async def test_series_are_sorted_by_their_labels(receiver: Running, streamed: bool) -> None:
    sources = [
        {**CAMERA, "instance": instance, **more}
        for instance in ("가", "b", "a-1", "a", "A", "ab", "\U0001f600", "～")
        for more in ({}, {"Zone": "1"}, {"zone": "0"}, {"a": "b"})
    ]
    points = [
        ({**source, "__name__": name}, NOW, 1.0)
        for source in sources
        for name in ("app_status", "ocr_value")
    ]
    await receiver.send(*points)
    found = await find(receiver, EVERYTHING, streamed=streamed)
    names = [labels for labels, _ in found]
    assert len(names) == len(points)
    # Compared bytewise, by name and value alternately.
    assert names == sorted(
        names, key=lambda labels: [text.encode() for pair in labels for text in pair]
    )


async def test_both_ends_belong_to_the_range(receiver: Running) -> None:
    await receiver.send(*(point for at in range(5) for point in camera(NOW + at, 0)))
    for start, end in ((1, 3), (0, 0), (-9, 9), (4, 9), (5, 9), (-9, -1), (3, 1)):
        wanted = query(("__name__", "=", "app_status"), start=NOW + start, end=NOW + end)
        times = [time - NOW for _, samples in await find(receiver, wanted) for time, _ in samples]
        assert times == [at for at in range(5) if start <= at <= end]


async def test_hints_narrow_the_range(receiver: Running) -> None:
    await receiver.send(*(point for at in range(9) for point in camera(NOW + at, 0)))

    async def times(start: int = 0, end: int = 0) -> list[int]:
        wanted = query(
            ("__name__", "=", "app_status"),
            start=NOW + 2,
            end=NOW + 6,
            hints=messages.ReadHints(start_ms=start, end_ms=end),
        )
        return [time - NOW for _, samples in await find(receiver, wanted) for time, _ in samples]

    assert await times() == [2, 3, 4, 5, 6]
    assert await times(NOW + 3, NOW + 4) == [3, 4]
    assert await times(NOW, NOW + 9) == [2, 3, 4, 5, 6]


async def test_for_labels_one_sample_of_each_series_is_enough(receiver: Running) -> None:
    await receiver.send(*(point for at in range(9) for point in camera(NOW + at, 0)))
    hints = messages.ReadHints(func="series", start_ms=NOW, end_ms=NOW + 9)
    found = await find(receiver, query(("job", "=", "camera"), hints=hints))
    assert found == [
        (labelled("app_status"), [(NOW, 0)]),
        (labelled("ocr_value"), [(NOW, NOW / 1000)]),
    ]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 0.0, 5e-324, 0.1, -1.5, 2.0**1000]
)
async def test_numbers_are_exact(receiver: Running, streamed: bool, value: float) -> None:
    await receiver.send(*press(NOW, value, 1, strokes=2.0**62))
    found = dict(await find(receiver, EVERYTHING, streamed=streamed))
    ((time, number),) = found[labelled("press_pressure_bar")]
    assert (time, bits(number)) == (NOW, bits(value))
    assert found[labelled("press_strokes_total")] == [(NOW, 2.0**62)]


async def test_timestamps_come_back_in_their_unit(receiver: Running) -> None:
    seen = 1_700_000_000_123.0
    labels = {**ROBOT, "__name__": "robot_seen_ms"}
    await receiver.send(*robot(NOW, 1), (labels, NOW, seen))
    (result,) = await find(receiver, named("robot_seen_ms"))
    assert result == (labelled("robot_seen_ms", ROBOT), [(NOW, seen)])


@pytest.mark.parametrize(
    "seconds", [0.0, 1_700_000_000.123456, -1e9, 253_402_300_800.5, 1e12, 0.000001, 946_684_800.0]
)
async def test_a_time_is_exact_to_the_microsecond(receiver: Running, seconds: float) -> None:
    values = {"app_status": 1.0, "ocr_value": seconds}
    await receiver.send(*(({**CAMERA, "__name__": name}, NOW, values[name]) for name in values))
    ((_, samples),) = await find(receiver, named("ocr_value"))
    assert samples == [(NOW, seconds)]


async def test_rows_of_one_millisecond_are_one_sample(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await receiver.send(*camera(NOW, 0))
    await connection.execute(
        """
        INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
        SELECT created_at + micros * INTERVAL '1 microsecond', abs(micros) % 3, ocr_value, source_id
        FROM app_logs, unnest(ARRAY[-1, 1, 998, 999, 1001, 1999, 2000]) AS micros
        """
    )
    ((_, samples),) = await find(receiver, named("app_status"))
    assert samples == [(NOW - 1, 1), (NOW, 0), (NOW + 1, 1001 % 3), (NOW + 2, 2000 % 3)]
    inside = query(("__name__", "=", "app_status"), start=NOW + 1, end=NOW + 1)
    ((_, samples),) = await find(receiver, inside)
    assert samples == [(NOW + 1, 1001 % 3)]


async def test_rows_at_the_ends_of_time(
    receiver: Running, connection: asyncpg.Connection, streamed: bool
) -> None:
    if await connection.fetchval(FIND_VERSION) is not None:
        pytest.skip("a hypertable has no chunks for such times")
    await receiver.send(*camera(NOW, 0))
    await connection.execute(
        """
        INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
        SELECT at::timestamptz, 0, ocr::timestamptz, source_id FROM app_logs,
            (VALUES ('infinity', 'infinity'), ('-infinity', '-infinity'),
                    ('4713-01-01 00:00Z BC', '-infinity'), ('294276-01-01 00:00Z', 'infinity'))
            AS added (at, ocr)
        """
    )
    ((_, samples),) = await find(receiver, named("ocr_value"), streamed=streamed)
    assert samples == [
        (-210_863_520_000_000, -math.inf),
        (NOW, NOW / 1000),
        (9_224_286_393_600_000, math.inf),
    ]


async def test_compressed_rows_come_back_as_they_were(
    receiver: Running, connection: asyncpg.Connection, streamed: bool
) -> None:
    await require_compression(connection)
    times = [NOW + 600_000 * place for place in range(500)]
    await receiver.send(*(point for at in times for point in camera(at, at // 600_000 % 3)))
    before = await find(receiver, EVERYTHING, streamed=streamed)
    await compress(connection)
    await receiver.send(*camera(NOW + 1000, 2))
    ((_, samples), _) = await find(receiver, EVERYTHING, streamed=streamed)
    assert (NOW + 1000, 2) in samples
    samples.remove((NOW + 1000, 2))
    assert samples == before[0][1]


async def test_a_source_can_be_read_as_soon_as_it_is_there(receiver: Running) -> None:
    for number in range(5):
        source = {**CAMERA, "instance": f"cam-{number}"}
        await receiver.send(
            *(({**source, "__name__": name}, NOW, 1.0) for name in ("app_status", "ocr_value"))
        )
        found = await find(receiver, named("app_status"))
        assert len(found) == number + 1


async def test_odd_labels(receiver: Running) -> None:
    odd = {**CAMERA, "nul": "a\0b", "mark": "␀0␀", "한글": "값", "quote": "\"'{}"}
    await receiver.send(
        *(({**odd, "__name__": name}, NOW, 1.0) for name in ("app_status", "ocr_value"))
    )
    found = await find(receiver, query(("nul", "=", "a\0b"), ("mark", "=~", "␀0␀")))
    assert [labels for labels, _ in found] == [
        labelled(name, odd) for name in ("app_status", "ocr_value")
    ]


SHARED = """
tables:
  by_line:
    match: {job: plc}
    columns:
      pressure: {metric: pressure_bar, type: double}
  hot:
    match: {hot: "yes"}
    columns:
      pressure: {metric: pressure_bar, type: timestamp}
"""


async def test_a_metric_in_several_tables_is_one_series(
    database_url: str, make_settings: MakeSettings, tmp_path: Path, streamed: bool
) -> None:
    tables = write_tables(tmp_path, SHARED)
    cold, hot = {"job": "plc"}, {"job": "plc", "hot": "yes"}

    def points(*times: int) -> list[Point]:
        return [
            ({**labels, "__name__": "pressure_bar"}, NOW + at, at + 0.5)
            for labels in (cold, hot)
            for at in times
        ]

    async with receiving(make_settings(database_url=database_url, tables_file=tables)) as receiver:
        await receiver.send(*points(0, 2))
        connection = await asyncpg.connect(database_url)
        await connection.execute("DELETE FROM by_line WHERE created_at = to_timestamp(1700000000)")
        await connection.close()
        found = await find(receiver, named("pressure_bar"), streamed=streamed)
    assert found == [
        (labelled("pressure_bar", hot), [(NOW, 0.5), (NOW + 2, 2.5)]),
        (labelled("pressure_bar", cold), [(NOW + 2, 2.5)]),
    ]


async def test_sources_that_somebody_changed(
    receiver: Running, connection: asyncpg.Connection
) -> None:
    await receiver.send(*camera(NOW, 0))
    await connection.execute(
        """
        INSERT INTO sources (labels, digest) VALUES
            ('[1]', '1'), ('"text"', '2'), ('{"line": 7, "no": null, "__name__": "x"}', '3'),
            ('{"job": "camera", "instance": "cam-1"}', '4');
        INSERT INTO app_logs (created_at, app_status, ocr_value, source_id)
        SELECT l.created_at + s.id * INTERVAL '1 s', 1, l.ocr_value, s.id FROM app_logs l, sources s
        """
    )
    await keep_keys(connection)
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM sources ORDER BY id")]
    found = dict(await find(receiver, named("app_status")))
    # Two sources have the same labels, and two have none.
    assert found == {
        labelled("app_status"): [
            (NOW, 0), (NOW + 1000 * ids[0], 1), (NOW + 1000 * ids[4], 1)
        ],
        labelled("app_status", {"line": "7"}): [(NOW + 1000 * ids[3], 1)],
        (("__name__", "app_status"),): [(NOW + 1000 * ids[1], 1), (NOW + 1000 * ids[2], 1)],
    }  # fmt: skip


async def test_reads_are_counted(receiver: Running) -> None:
    await fill(receiver)
    await read(receiver, request(EVERYTHING))
    await read(receiver, b"nothing")
    _, text = await receiver.get("/metrics")
    assert 'receiver_read_requests_total{code="200",type="samples"} 1.0' in text
    assert 'receiver_read_requests_total{code="400",type="unknown"} 1.0' in text
    assert "receiver_samples_read_total 9.0" in text
