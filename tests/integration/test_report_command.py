"""The report commands, against a real database."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from receiver.commands.arguments import find_table
from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import MissingEntryError, UsageError
from tests.conftest import MakeSettings
from tests.logs import add_logs, add_sources, logs

Invoke = Callable[..., Awaitable[int]]
DAY = ("--day", "2025-03-03")


@pytest.fixture
async def invoke(
    make_settings: MakeSettings, database_url: str, connection: asyncpg.Connection
) -> Invoke:
    """Return a function that runs commands; in the database, cam-1 failed for 10 s of a minute."""
    del make_settings
    await add_sources(connection, 2)
    await add_logs(connection, logs(1, [0, 0, 2, 2, *[0] * 8]) + logs(2, [0] * 12))

    async def run(*words: str) -> int:
        parser, flags = build_parser(words[0])
        parsed = parser.parse_args([*words, "--database-url", database_url])
        settings = Settings.load(flags[words[0]](parsed_args=parsed))
        return int(await load_command(words[0]).run(settings, parsed))

    return run


async def test_a_day_as_csv_for_excel_and_pandas(
    invoke: Invoke, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert await invoke("report", *DAY, "--format", "csv") == 0
    text = capfdbinary.readouterr().out.decode("utf-8-sig")
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["name"], first["failures"], first["down_seconds"]) == ("cam-1", "1", "10.0")
    assert float(first["availability"]) == pytest.approx(50 / 60)
    assert (second["name"], second["failures"], second["mttr_seconds"]) == ("cam-2", "0", "")
    # Excel reads the local columns as dates, and pandas reads the others as times with a zone.
    assert datetime.strptime(first["start_local"], "%Y-%m-%d %H:%M:%S").hour == 0  # noqa: DTZ007
    assert datetime.fromisoformat(first["start"]).utcoffset() == timedelta(0)
    assert await invoke("report", *DAY, "--format", "csv", "--codes") == 0
    (code,) = csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode("utf-8-sig")))
    assert (code["code"], code["times"], code["share"]) == ("2", "1", "1.0")


async def test_lines_are_in_the_order_in_which_people_count(
    invoke: Invoke, connection: asyncpg.Connection, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    await connection.execute(
        "UPDATE sources SET labels = jsonb_build_object('instance', '10.1.0.' || 18 / id)"
    )
    assert await invoke("report", *DAY, "--format", "json") == 0
    lines = json.loads(capfdbinary.readouterr().out)["lines"]
    assert [line["name"] for line in lines] == ["10.1.0.9", "10.1.0.18"]


async def test_without_a_name_the_first_table_with_codes_is_reported(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(
        "tables: {ovens: {columns: {heat: {metric: heat, type: double}}},"
        " robots: {columns: {state: {metric: state, type: code, codes: states}}}}"
    )
    settings = make_settings(tables_file=file)
    assert find_table(settings, None, with_codes=True).name == "robots"
    assert find_table(settings, None).name == "ovens"


async def test_a_table_goes_into_a_file_too(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    assert await invoke("report", *DAY, "--format", "table", "-o", str(file)) == 0
    text = file.read_text()
    assert "cam-1 #1" in text
    assert "83.33 %" in text
    assert "\x1b" not in text


async def test_a_text_that_excel_would_run_is_harmless(
    invoke: Invoke, connection: asyncpg.Connection, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    await connection.execute("""UPDATE sources SET labels = '{"instance": "=1+1"}' WHERE id = 2""")
    assert await invoke("report", *DAY, "--format", "csv") == 0
    names = [
        line["name"]
        for line in csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode("utf-8-sig")))
    ]
    assert sorted(names) == ["'=1+1", "cam-1"]


async def test_calendar_classes_and_stops_change_what_is_reported(
    invoke: Invoke, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert await invoke("shifts", "set", "--time-zone", "Asia/Seoul", "--micro-stop", "5s") == 0
    assert await invoke("shifts", "add", "late", "18:00", "02:00", "--days", "mon-fri") == 0
    stop = ("2025-03-03T18:00:30", "2025-03-03T18:00:40", "cleaning", "--source", "1")
    assert await invoke("stops", "add", *stop) == 0
    assert await invoke("codes", "class", "2", "failure") == 0
    capfdbinary.readouterr()
    words = ("report", "--shift", "late", *DAY, "--format", "json")
    assert await invoke(*words) == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert found["period"] == {
        "name": "late",
        "start": "2025-03-03T09:00:00+00:00",
        "end": "2025-03-03T17:00:00+00:00",
    }
    total = found["total"]
    assert (total["planned_seconds"], total["failures"], total["micro_stops"]) == (10, 1, 0)
    assert await invoke("codes", "class", "2", "planned") == 0
    assert await invoke(*words) == 0
    total = json.loads(capfdbinary.readouterr().out)["total"]
    assert (total["planned_seconds"], total["failures"], total["availability"]) == (20, 0, 1)
    assert await invoke("shifts", "holiday", "2025-03-03") == 0
    with pytest.raises(UsageError, match="no shift late started on that day"):
        await invoke(*words)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
async def test_the_shift_of_today_is_that_of_the_calendars_day(
    invoke: Invoke, capfdbinary: pytest.CaptureFixture[bytes], zone: str
) -> None:
    assert await invoke("shifts", "set", "--time-zone", zone) == 0
    assert await invoke("shifts", "add", "all", "00:00", "00:00") == 0
    for words in (("--day",), ("--day", "last")):
        starts = set[str]()
        for more in (("--shift", "all"), ()):
            capfdbinary.readouterr()
            assert await invoke("report", *more, *words, "--format", "json") == 3  # no rows
            starts.add(json.loads(capfdbinary.readouterr().out)["period"]["start"])
        assert len(starts) == 1


async def test_comments_are_kept_with_their_time(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await invoke("comments", "add", "1", "2025-03-03T09:00:12", "a switch") == 0
    assert await invoke("comments", "list") == 0
    assert re.search("cam-1.* #1 .*a switch", capsys.readouterr().out)
    assert await invoke("comments", "remove", "1", "2025-03-03T09:00:12Z") == 0
    with pytest.raises(MissingEntryError, match="no comment at 2025-03-03 09:00:12; `receiver"):
        await invoke("comments", "remove", "1", "2025-03-03T09:00:12Z")
    with pytest.raises(MissingEntryError, match="no source 99; there are #1 cam-1, #2 cam-2"):
        await invoke("comments", "add", "99", "2025-03-03T09:00:12Z", "x")


async def test_a_source_is_named_wherever_one_is_chosen(
    invoke: Invoke, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO sources (labels, digest) VALUES ($1, '\\x01')",
        json.dumps({"instance": "cam-1", "line": "A"}),
    )
    at = "2025-03-03T09:00:12Z"
    # The other source of this name has no rows in the table.
    assert await invoke("comments", "add", "cam-1", at, "a switch") == 0
    assert await connection.fetchval("SELECT source_id FROM state_comments") == 1
    assert await invoke("comments", "remove", "instance=cam-1", at) == 0
    with pytest.raises(MissingEntryError, match=r"no source A \(did you mean line=A\?\); there"):
        await invoke("comments", "add", "A", at, "x")
    stop = ("stops", "add", at, "2025-03-03T10:00:00Z", "--source")
    with pytest.raises(UsageError, match="SOURCE cam-1 is the name of 2 sources, numbers 1, 3: "):
        await invoke(*stop, "cam-1")
    assert await invoke(*stop, "line=A") == 0
    assert await connection.fetchval("SELECT source_id FROM planned_stops") == 3


async def test_the_table_of_comments_may_follow_the_action(invoke: Invoke) -> None:
    for words in (("--table", "none", "list"), ("list", "--table", "none")):
        with pytest.raises(UsageError, match="--table=none: no such table is declared"):
            await invoke("comments", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("shifts", "remove", "late"), "there is no shift late"),
        (("shifts", "workday", "2025-03-03"), "2025-03-03 is not a holiday"),
        (("stops", "remove", "7"), "there is no planned stop 7"),
        (("stops", "add", "2025-03-03", "2025-03-04", "--source", "9"), "there is no source 9"),
    ],
)
async def test_what_is_not_there_is_no_wrong_command_line(
    invoke: Invoke, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(MissingEntryError, match=message) as raised:
        await invoke(*words)
    assert not isinstance(raised.value, UsageError)


async def test_errors_state_times_as_they_were_typed(invoke: Invoke) -> None:
    assert await invoke("shifts", "set", "--time-zone", "Asia/Seoul") == 0
    times = "2025-03-03T09:00", "2025-03-03T08:00"
    with pytest.raises(UsageError, match=r"START \(2025-03-03 09:00:00\) must lie before END"):
        await invoke("stops", "add", *times)
    with pytest.raises(UsageError, match=r"--since \(2025-03-03 09:00:00\) must lie before"):
        await invoke("report", "--since", times[0], "--until", times[1])
    with pytest.raises(MissingEntryError, match="no comment at 2025-03-03 09:00:00"):
        await invoke("comments", "remove", "1", times[0])


async def test_a_comment_has_an_author(
    invoke: Invoke, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def author() -> object:
        return await connection.fetchval("SELECT author FROM state_comments")

    add = ("comments", "add", "1", "2025-03-03T09:00:12", "a switch")
    monkeypatch.setenv("LOGNAME", "kim")
    assert await invoke(*add) == 0
    assert await author() == "kim"
    assert await invoke(*add, "--author", "이") == 0
    assert await author() == "이"

    monkeypatch.setenv("LOGNAME", "\udcff\n")
    assert await invoke(*add) == 0
    assert await author() is None
    await invoke(*add, "--author", "이")

    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert await invoke(*add) == 0
    assert await author() is None


async def test_comments_as_table_csv_and_json(
    invoke: Invoke, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def listed(kind: str) -> str:
        assert await invoke("comments", "list", "--format", kind) == 0
        return capfdbinary.readouterr().out.decode("utf-8-sig")

    assert await invoke("shifts", "set", "--time-zone", "Asia/Seoul") == 0
    for source, author in (("1", "=1+1"), ("2", "김")):
        words = (source, "2025-03-03T09:00:12.5Z", "스위치", "교체", "--author", author)
        assert await invoke("comments", "add", *words) == 0
    capfdbinary.readouterr()
    assert "김" in await listed("table")
    first, second = csv.DictReader(io.StringIO(await listed("csv")))
    assert first == {
        "source_id": "1",
        "started_at": "2025-03-03T09:00:12.500000+00:00",
        "cause": "스위치",
        "comment": "교체",
        "author": "'=1+1",
        "started_at_local": "2025-03-03 18:00:12",
        "time_zone": "Asia/Seoul",
    }
    assert second["author"] == "김"
    written = json.loads(await listed("json"))
    assert written["time_zone"] == "Asia/Seoul"
    assert [one["author"] for one in written["comments"]] == ["=1+1", "김"]
    assert written["comments"][0]["started_at"] == first["started_at"]


async def test_html_escapes_what_it_shows(
    invoke: Invoke, connection: asyncpg.Connection, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    await connection.execute("UPDATE error_codes SET name = '<b>&' WHERE code = 2")
    assert await invoke("report", *DAY, "--format", "html") == 0
    text = capfdbinary.readouterr().out.decode()
    assert "&lt;b&gt;&amp;" in text
    assert "<b>" not in text


async def test_without_rows_the_exit_code_says_so(invoke: Invoke) -> None:
    assert await invoke("report", "--month", "2020-01") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--day", "--week"), "exclude each other"),
        (("--until", "1d"), "--until needs --since"),
        (("--since", "1d", "--until", "2d"), "must lie before"),
        (("--shift", "none"), "there is no such shift"),
    ],
)
async def test_ranges_that_are_none(invoke: Invoke, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await invoke("report", *words)


@pytest.mark.parametrize(("label", "noted"), [("none", True), ("instance", False)])
async def test_a_label_that_no_source_has_is_noted(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], label: str, noted: bool
) -> None:
    assert await invoke("report", *DAY, "--by", label) == 0
    assert (f"note: no source has the label {label}" in capsys.readouterr().err) is noted


async def test_settings_of_reports_that_are_not_given_are_asked_for(invoke: Invoke) -> None:
    with pytest.raises(UsageError, match="give at least one of --time-zone"):
        await invoke("shifts", "set")


async def test_logs_of_a_source_with_errors(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in ("cam-1", "1", "instance=cam-1"):
        assert await invoke("logs", "--errors", "--source", source) == 0
        shown = capsys.readouterr().out
        assert shown.count("NETWORK_ERROR") == 2
        assert "cam-1" in shown
    assert await invoke("logs", "--since", "1d") == 0
    assert "no rows yet" in capsys.readouterr().out
    with pytest.raises(
        UsageError, match=r"no such source \(did you mean cam-2\?\); there are #1 cam-1, "
    ):
        await invoke("logs", "--source", "cam-9")


@pytest.mark.parametrize(
    "words",
    [
        ("report", *DAY),
        ("stops", "add", "2025-03-03T12:00", "2025-03-03T13:00"),
        ("export", "-o", "/nowhere/logs.csv", "--start", "7d"),
    ],
    ids=lambda words: words[0],
)
async def test_a_label_is_matched_once(invoke: Invoke, words: tuple[str, ...]) -> None:
    matches = ("--match", "line=A", "--match", "job=a", "--match", "job=b")
    with pytest.raises(UsageError, match=r"--match=job=b: job is matched twice"):
        await invoke(*words, *matches)
