"""Commands against a real database and real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pty
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from itertools import pairwise
from pathlib import Path

import aiohttp
import asyncpg
import pytest
import snappy
from aiohttp import web
from aiohttp.test_utils import TestServer

from receiver.clients.capture import CaptureError, read_capture
from receiver.commands.cli import build_parser, load_command
from receiver.config.settings import Settings
from receiver.errors import DatabaseUnavailableError, ErrorCodeError, SchemaError
from receiver.http.paths import WRITE as WRITE_PATH
from receiver.process.app import STORE, build_app
from receiver.protocol.generated.remote_write_v1_pb2 import WriteRequest
from receiver.storage.reading import listing
from receiver.storage.schema.revisions import newest_revision
from receiver.storage.writing.codes import statements_for
from tests.conftest import MakeSettings
from tests.logs import add_logs, add_sources, logs

DEADLINE = 20.0
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "User-Agent": "Prometheus/3.0.0",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
Invoke = Callable[..., Awaitable[int]]
Handler = Callable[[web.Request], Awaitable[web.Response]]


@pytest.fixture
def invoke(make_settings: MakeSettings) -> Invoke:
    """Return a function that runs a command as the CLI does, in an environment without settings."""
    del make_settings

    async def run(*words: str) -> int:
        parser, flags = build_parser(words[0])
        parsed = parser.parse_args(words)
        settings = Settings.load(flags[words[0]](parsed_args=parsed))
        return int(await load_command(words[0]).run(settings, parsed))

    return run


@pytest.fixture
def in_seoul(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@asynccontextmanager
async def receiver(
    *words: str, stdout: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in its own process; kill it at the end if it still runs."""
    environment = {name: os.environ[name] for name in os.environ if "RECEIVER" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *words),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(DEADLINE):
            yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def next_line(stream: asyncio.StreamReader | None, pattern: str = "") -> re.Match[str]:
    """Read lines up to the first that matches the pattern."""
    assert stream is not None
    while line := (await stream.readline()).decode():
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"the output ended without {pattern}")


async def listening(process: asyncio.subprocess.Process) -> str:
    """Wait until a newly started receiver is ready; return its address."""
    url = (await next_line(process.stderr, r"listening on (\S+)/api"))[1]
    await next_line(process.stderr, "the database is ready")
    return url


async def test_errors_are_looked_for_among_the_newest_rows(
    database_url: str,
    connection: asyncpg.Connection,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 5)
    await add_sources(connection, 1)
    await add_logs(connection, logs(1, [2, 0, 1, 0, 0, 0, 0]))
    words = ("logs", "--errors", "--database-url", database_url)
    for more in ((), ("--source", "cam-1")):
        assert await invoke(*words, *more) == 0
        found = capsys.readouterr()
        assert "NETWORK_ERROR" not in found.out
        assert "DB_ERROR" in found.out
        assert "note: only the newest" in found.err
    assert await invoke(*words, "-n", "1") == 0
    assert capsys.readouterr().err == ""
    assert await invoke(*words, "--since", "2025-01-01T00:00:00Z") == 0
    found = capsys.readouterr()
    assert "NETWORK_ERROR" in found.out
    assert found.err == ""


async def insert_log(
    connection: asyncpg.Connection,
    created_at: str,
    ocr_value: str = "2026-01-01 00:00:00+00",
    code: int = 0,
) -> None:
    await connection.execute(
        "INSERT INTO sources (labels, digest) VALUES ('{}', '') ON CONFLICT DO NOTHING"
    )
    await connection.execute(
        "INSERT INTO app_logs (created_at, ocr_value, app_status, source_id) "
        "SELECT $1::text::timestamptz, $2::text::timestamptz, $3, id FROM sources LIMIT 1",
        *(created_at, ocr_value, code),
    )


def payload(timestamp: int, status: float = 0) -> bytes:
    request = WriteRequest()
    for name, value in (("app_status", status), ("ocr_value", 1.7e9)):
        series = request.timeseries.add()
        series.labels.add(name="__name__", value=name)
        series.labels.add(name="job", value="factory")
        series.samples.add(timestamp=timestamp, value=value)
    return bytes(snappy.compress(request.SerializeToString()))


def capture_file(
    path: Path, *bodies: bytes, headers: dict[str, str] = HEADERS, end: str = ""
) -> str:
    with path.open("w") as file:
        for body in bodies:
            request = {
                "received_at": "2026-02-03T04:05:06Z",
                "path": WRITE_PATH,
                "headers": headers,
                "body": base64.b64encode(body).decode(),
            }
            file.write(json.dumps(request) + "\n")
        file.write(end)
    return str(path)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post(WRITE_PATH, handler)
    async with TestServer(app) as server:
        yield str(server.make_url(WRITE_PATH))


# --- logs ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_seoul")
async def test_logs_shows_the_newest_rows_whole(
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    description = "설명 [red]no markup[/red] " * 20 + "end"
    await connection.execute("INSERT INTO error_codes VALUES (5, 'LONG', $1)", description)
    await insert_log(connection, "2026-02-03 04:05:06.789+00", "2026-02-03 04:05:06.000001+00", 5)
    await insert_log(connection, "2026-02-03 04:05:06.788+00")
    await insert_log(connection, "2026-02-03 04:05:06.787+00")
    ids = await connection.fetch("SELECT id FROM app_logs ORDER BY created_at DESC")

    assert await invoke("logs", "-n", "2", "--database-url", database_url) == 0

    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert head.split() == [
        *("id", "created_at", "source", "ocr_value", "error_name", "description"),
    ]
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
        [
            str(ids[0]["id"]),
            "2026-02-03 13:05:06.789+09",
            "2026-02-03 13:05:06.000001+09",
            "LONG",
            description,
        ],
        [
            str(ids[1]["id"]),
            "2026-02-03 13:05:06.788+09",
            "2026-01-01 09:00:00.000+09",
            "OK",
            "정상 상태",
        ],
    ]


async def test_logs_shows_years_that_python_does_not_know(
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await insert_log(connection, "2026-02-03 04:05:06+00", "55840-12-07 10:40:00+00")
    await insert_log(connection, "2026-02-03 04:05:07+00", "0044-03-15 00:00:00+00 BC")
    assert await invoke("logs", "--database-url", database_url) == 0
    shown = capsys.readouterr().out
    assert "55840-12-07 10:40:00+00" in shown
    assert "0044-03-15 00:00:00+00 BC" in shown


async def test_logs_says_that_there_are_no_rows(
    invoke: Invoke, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await invoke("logs", "--database-url", database_url) == 0
    assert "no rows yet" in capsys.readouterr().out


async def test_without_tables_it_says_what_to_run(invoke: Invoke, empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="run `receiver migrate`"):
        await invoke("logs", "--database-url", empty_database_url)


async def test_migrate_says_that_nothing_is_left_to_do(
    invoke: Invoke, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert await invoke("migrate", "--database-url", database_url) == 0
    assert caplog.messages == [f"the schema is up to date, revision {newest_revision()}"]


async def test_migrate_says_that_it_cannot_distribute(
    invoke: Invoke, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("migrate", "--distribute", "--citus", "off", "--database-url", empty_database_url)
    assert await invoke(*words) == 0
    assert "nothing was distributed" in caplog.text


async def test_without_a_server_it_says_so(invoke: Invoke) -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"cannot be reached: Connect"):
        await invoke("logs", "--database-url", "postgresql://127.0.0.1:1/x")


@pytest.mark.parametrize("number", ["0", "-1", "many", "9" * 5000])
async def test_logs_refuses_a_number_of_rows(
    invoke: Invoke, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await invoke("logs", "-n", number)
    assert "must be a whole number from 1 to 999999999" in capsys.readouterr().err


async def test_logs_follows_into_a_pipe(database_url: str, connection: asyncpg.Connection) -> None:
    for second in ("00", "01", "02", "03"):
        await insert_log(connection, f"2026-02-03 04:00:{second}+00")
    words = ("logs", "--follow", "-n", "2", "--database-url", database_url)
    async with receiver(*words) as process:
        for second in ("02", "03"):
            await next_line(process.stdout, f"^\\d+\t.*:{second}\\.000.*\t.*\tOK\t정상 상태\n")

        # More rows at once than -n shows, one of them late but not too late.
        async with connection.transaction():
            for second in ("07", "05", "09", "02.5", "08", "06"):
                await insert_log(connection, f"2026-02-03 04:00:{second}+00")
        for second in ("02.500", "05.000", "06.000", "07.000", "08.000", "09.000"):
            assert f":{second}" in (await next_line(process.stdout)).string
        await insert_log(connection, "2026-02-03 04:00:10+00")
        assert ":10.000" in (await next_line(process.stdout)).string

        process.send_signal(signal.SIGINT)
        rest, errors = await process.communicate()
        assert (rest, errors, process.returncode) == (b"", b"", 130)


async def test_logs_follows_an_empty_table(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with receiver("logs", "--follow", "--database-url", database_url) as process:
        await connected(connection, '%FROM "app_logs"%')
        await insert_log(connection, "2026-02-03 04:00:00+00")
        await next_line(process.stdout, "\tOK\t")


async def test_logs_ends_quietly_with_its_reader(
    database_url: str, connection: asyncpg.Connection
) -> None:
    reader, writer = os.pipe()
    words = ("logs", "--follow", "--database-url", database_url)
    async with receiver(*words, stdout=writer) as process:
        os.close(writer)
        os.close(reader)
        await insert_log(connection, "2026-02-03 04:00:00+00")
        _, errors = await process.communicate()
        assert errors == b""


async def test_logs_refreshes_in_a_terminal(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE error_codes SET description = repeat('x', 90) WHERE code = 0")
    await insert_log(connection, "2026-02-03 04:00:00+00")
    leader, follower = pty.openpty()
    words = ("logs", "--follow", "--database-url", database_url)
    async with receiver(*words, stdout=follower) as process:
        os.close(follower)
        os.set_blocking(leader, False)
        with closing(os.fdopen(leader, "rb", buffering=0)) as terminal:
            await read_until(terminal.read, b"OK")
            await insert_log(connection, "2026-02-03 04:00:01+00", code=2)
            shown = await read_until(terminal.read, b"NETWORK_ERROR")
            assert shown.count(b"x") % 90 == 0
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
    assert (errors, process.returncode) == (b"", 130)


async def read_until(read: Callable[[int], bytes | None], wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown:
        shown += read(65536) or b""
        await asyncio.sleep(0.01)
    return shown


async def connected(connection: asyncpg.Connection, statement: str) -> None:
    """Wait until another connection has run the statement."""
    others = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE state = 'idle' AND pid <> pg_backend_pid() AND query LIKE $1"
    )
    deadline = time.monotonic() + DEADLINE
    while not await connection.fetchval(others, statement):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- codes --------------------------------------------------------------------------------------


async def test_codes_are_listed_added_and_renamed(
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await connection.execute("INSERT INTO error_codes VALUES (6, 'OLD', 'kept', NULL)")
    database = ("--database-url", database_url)
    assert await invoke("codes", "add", "-5", "OCR_ERROR", *database) == 0
    assert await invoke("codes", *database, "add", "5", "IMAGE_ERROR", "읽을 수 없음") == 0
    assert await invoke("codes", "rename", "6", "NEW", *database) == 0
    assert await invoke("codes", "rename", "2", "NETWORK", "changed", *database) == 0
    assert await invoke("codes", "list", *database) == 0

    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["code", "name", "description", "created_at", "class"]
    times = r"\s+(20\S+ \S+)?\s+(?=\S+\s*$)"
    assert [re.split(r"\s{2,}", re.sub(times, "  ", row).strip()) for row in rows] == [
        ["-5", "OCR_ERROR", "failure"],
        ["0", "OK", "정상 상태", "ok"],
        ["1", "DB_ERROR", "데이터베이스 연결 오류", "failure"],
        ["2", "NETWORK", "changed", "failure"],
        ["5", "IMAGE_ERROR", "읽을 수 없음", "failure"],
        ["6", "NEW", "kept", "failure"],
        ["99", "UNKNOWN_ERROR", "정의되지 않은 오류", "failure"],
    ]


async def test_a_code_that_registered_itself_loses_its_stopgap_description(
    invoke: Invoke, database_url: str, connection: asyncpg.Connection
) -> None:
    for code in (7, 8):
        await connection.execute(
            "INSERT INTO error_codes VALUES ($1, 'UNREGISTERED_' || $1::int, 'Seen before')", code
        )
    await insert_log(connection, "2026-02-03 04:00:00+00", code=7)
    await invoke("codes", "rename", "7", "PRINTER_ERROR", "--database-url", database_url)
    await invoke("codes", "rename", "8", "PAPER_ERROR", "no paper", "--database-url", database_url)
    found = await connection.fetch("SELECT * FROM error_codes WHERE code IN (7, 8) ORDER BY code")
    assert [row["name"] for row in found] == ["PRINTER_ERROR", "PAPER_ERROR"]
    assert [row["description"] for row in found] == [None, "no paper"]


SPOILT = "a\x1b[2J\x07\r\nb\u202ec\x9b"


async def test_no_name_commands_a_terminal(
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await connection.execute("INSERT INTO error_codes VALUES (7, $1, $1)", SPOILT)
    await insert_log(connection, "2026-02-03 04:00:00+00", code=7)
    for words in (["codes", "list"], ["logs"]):
        await invoke(*words, "--database-url", database_url)
        shown = capsys.readouterr().out
        assert shown.count(r"a\x1b[2J\x07 b\u202ec\x9b") == 2
        assert all(line.isprintable() for line in shown.splitlines())


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1", "euc_kr:strict"])
@pytest.mark.parametrize(
    "words",
    [
        ("codes", "list"),
        ("logs",),
        ("doctor",),
        ("doctor", "--json"),
        ("export", "-o", "-", "--format", "csv"),
    ],
)
async def test_no_terminal_is_too_poor_for_what_is_shown(
    encoding: str, words: tuple[str, ...], database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO error_codes VALUES (7, '똠방각하 é 👩', '→')")
    await insert_log(connection, "2026-02-03 04:00:00+00", code=7)
    ended = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *words, "--database-url", database_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": encoding, "LC_ALL": "C"},
        cwd=Path(__file__).parents[2],
    )
    output, errors = await ended.communicate()
    assert ended.returncode == 0, errors
    assert b"Traceback" not in errors
    assert output
    if "--json" in words:
        assert json.loads(output.decode("ascii"))
    if words in {("logs",), ("codes", "list")}:
        output.decode(encoding.partition(":")[0])


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ("ko_KR.UTF-8", "등록되기 전에 app_status에서 나타남"),
        ("en_US.UTF-8", "Seen in app_status before it was registered"),
        ("C", "Seen in app_status before it was registered"),
        ("", "Seen in app_status before it was registered"),
    ],
)
async def test_our_own_descriptions_are_in_the_language_of_the_locale(
    locale: str,
    shown: str,
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await connection.execute(statements_for("error_codes", "app_status").add, [7])
    await insert_log(connection, "2026-02-03 04:00:00+00", code=7)
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("LC_MESSAGES", "")
    monkeypatch.setenv("LANG", "C")
    for words in (["codes", "list"], ["logs"]):
        await invoke(*words, "--database-url", database_url)
        assert shown in capsys.readouterr().out
    stored = await connection.fetchval("SELECT description FROM error_codes WHERE code = 7")
    assert stored == "Seen in app_status before it was registered"


@pytest.mark.parametrize("words", [("add", "7"), ("rename", "99")])
async def test_a_name_that_another_code_has_is_taken_with_a_warning(
    words: tuple[str, ...],
    invoke: Invoke,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await invoke("codes", *words, "network_error ", "--database-url", database_url)
    assert capsys.readouterr() == ("", "note: code 2 is called NETWORK_ERROR too\n")
    await invoke("codes", "rename", words[1], "OF_ITS_OWN", "--database-url", database_url)
    assert capsys.readouterr() == ("", "")


async def test_a_code_is_not_added_twice(invoke: Invoke, database_url: str) -> None:
    with pytest.raises(ErrorCodeError, match=r"code 2 .* NETWORK_ERROR.*codes rename 2 NAME"):
        await invoke("codes", "add", "2", "TWICE", "--database-url", database_url)


async def test_an_unknown_code_is_not_renamed(invoke: Invoke, database_url: str) -> None:
    with pytest.raises(ErrorCodeError, match=r"code 3 is not registered.*codes add 3 NAME"):
        await invoke("codes", "rename", "3", "NONE", "--database-url", database_url)


@pytest.mark.parametrize("action", ["add", "rename"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("2147483648", "X"), "from -2147483648 to 2147483647"),
        (("-2147483649", "X"), "from -2147483648 to 2147483647"),
        (("1.5", "X"), "not '1.5'"),
        (("five", "X"), "not 'five'"),
        (("5", " "), "NAME: must not be empty"),
        (("5", "a\nb"), "NAME: must be one line"),
        (("5", "X", "\udcff"), "DESCRIPTION: must be text in UTF-8"),
    ],
)
async def test_what_can_be_no_code_is_refused(
    invoke: Invoke,
    action: str,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        await invoke("codes", action, *words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("code", [2147483647, -2147483648])
async def test_the_outermost_codes_can_be_added(
    invoke: Invoke, database_url: str, connection: asyncpg.Connection, code: int
) -> None:
    await invoke("codes", "add", str(code), "OUTERMOST", "--database-url", database_url)
    found = await connection.fetchval("SELECT name FROM error_codes WHERE code = $1", code)
    assert found == "OUTERMOST"


# --- the embedded database ----------------------------------------------------------------------


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: if the tests run as root, PostgreSQL's user cannot access it.
    with tempfile.TemporaryDirectory(prefix="commands-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory, "data")


async def test_the_embedded_database_is_shared_with_a_running_receiver(
    invoke: Invoke, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded = ("--data-dir", str(data_dir))
    with pytest.raises(SchemaError, match="run `receiver migrate`"):
        await invoke("codes", "list", *embedded)
    async with receiver("serve", "--listen", "127.0.0.1:0", *embedded) as process:
        await listening(process)
        await invoke("codes", "add", "5", "WHILE_IT_RUNS", *embedded)
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
    assert await invoke("codes", "list", *embedded) == 0
    assert "WHILE_IT_RUNS" in capsys.readouterr().out


# --- capture and replay -------------------------------------------------------------------------


async def test_what_was_captured_can_be_replayed(
    invoke: Invoke,
    database_url: str,
    connection: asyncpg.Connection,
    make_settings: MakeSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bodies = [payload(1_700_000_000_000 + 5000 * number, number % 3) for number in range(20)]
    words = ("capture", str(tmp_path / "files"), "--listen", "127.0.0.1:0")
    async with receiver(*words, "--database-url", database_url) as process:
        url = await listening(process) + WRITE_PATH
        async with aiohttp.ClientSession() as session:
            for body in bodies:
                headers = {**HEADERS, "Authorization": "Bearer hush"}
                async with session.post(url, data=body, headers=headers) as response:
                    assert response.status == 204
            async with session.post(url, data=b"nonsense", headers=HEADERS) as response:
                assert response.status == 400
        process.kill()
        await process.wait()

    (file,) = (tmp_path / "files").iterdir()
    requests = list(read_capture(file))
    assert [request.body for request in requests] == [*bodies, b"nonsense"]
    assert all(request.headers == HEADERS for request in requests)
    assert b"hush" not in file.read_bytes()
    rows = "SELECT created_at, app_status, ocr_value FROM app_logs ORDER BY created_at"
    stored = await connection.fetch(rows)
    assert len(stored) == 20

    await connection.execute("TRUNCATE app_logs")
    app = build_app(make_settings(database_url=database_url))
    async with TestServer(app) as server:
        await app[STORE].opening
        to = str(server.make_url(WRITE_PATH))
        assert await invoke("replay", str(file), "--to", to) == 1
    assert await connection.fetch(rows) == stored
    shown = capsys.readouterr()
    assert re.search(r"^21 requests in .* requests/s\): 20 × 204, 1 × 400$", shown.out)
    assert "the first of 400" in shown.err


async def test_a_receiver_that_captures_takes_no_replay(
    invoke: Invoke, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The replay would never reach the end of the file that the receiver is writing."""
    words = ("capture", str(tmp_path / "files"), "--listen", "127.0.0.1:0")
    async with receiver(*words, "--database-url", database_url) as process:
        url = await listening(process) + WRITE_PATH
        async with aiohttp.ClientSession() as session:
            for number in range(3):
                body = payload(1_700_000_000_000 + 5000 * number, 0)
                async with session.post(url, data=body, headers=HEADERS) as response:
                    assert response.status == 204
        (file,) = (tmp_path / "files").iterdir()
        before = file.read_bytes()
        assert await invoke("replay", str(file), "--to", url, "--connections", "1") == 1
        assert file.read_bytes() == before
        process.kill()
        await process.wait()
    shown = capsys.readouterr()
    assert "1 × 409, 2 not sent" in shown.out
    assert "a replay into it would read what it records" in shown.err


async def test_capture_into_a_place_that_cannot_be_fails_at_start(
    invoke: Invoke, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match="cannot record"):
        await invoke("capture", str(tmp_path / "file"), "--database-url", database_url)


async def test_replay_sends_requests_as_they_came(invoke: Invoke, tmp_path: Path) -> None:
    bodies = [b"%d" % number for number in range(20)]
    got: list[bytes] = []
    headers: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        got.append(await request.read())
        headers.update(request.headers)
        return web.Response(status=204)

    first = capture_file(tmp_path / "1", *bodies[:15])
    second = capture_file(tmp_path / "2", *bodies[15:])
    async with serving(answer) as to:
        assert await invoke("replay", first, second, "--connections", "1", "--to", to) == 0
        assert got == bodies
        assert headers.items() >= HEADERS.items()

        headers.clear()
        without = capture_file(tmp_path / "3", b"", headers={})
        assert await invoke("replay", without, "--to", to) == 0
        assert not headers.keys() & HEADERS.keys()


async def test_replay_uses_its_connections(invoke: Invoke, tmp_path: Path) -> None:
    all_at_once = asyncio.Barrier(3)
    under_way = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal under_way
        under_way += 1
        assert under_way <= 3
        async with asyncio.timeout(DEADLINE):
            await all_at_once.wait()
        under_way -= 1
        return web.Response(status=204)

    file = capture_file(tmp_path / "file", *[b""] * 9)
    async with serving(answer) as to:
        assert await invoke("replay", file, "--connections", "3", "--to", to) == 0


@pytest.mark.parametrize(
    ("answers", "code", "counted", "tries"),
    [
        ([204, 200], 0, "1 × 200, 1 × 204", 2),
        ([500, 503, 204, 204], 0, "2 × 204", 4),
        ([400, 204], 1, "1 × 204, 1 × 400", 2),
        ([429, 204], 1, "1 × 204, 1 × 429", 2),
        ([302, 204], 1, "1 × 204, 1 × 302", 2),
        ([204] + [503] * 99, 1, "1 × 204, 1 × 503", None),
        ([503] * 99, 1, "1 × 503, 1 not sent", None),
    ],
)
async def test_replay_counts_the_answers(
    invoke: Invoke,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answers: list[int],
    code: int,
    counted: str,
    tries: int | None,
) -> None:
    coming = iter(answers)
    tried = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal tried
        tried += 1
        return web.Response(status=next(coming), headers={"Location": "/elsewhere"})

    file = capture_file(tmp_path / "file", b"1", b"2")
    words = ("replay", file, "--connections", "1", "--retry-for", "300ms")
    async with serving(answer) as to:
        assert await invoke(*words, "--to", to) == code
    assert capsys.readouterr().out.rstrip().endswith(f"requests/s): {counted}")
    assert tries in {tried, None}


async def test_replay_waits_as_long_as_it_is_told(invoke: Invoke, tmp_path: Path) -> None:
    times: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.Response(status=503 if len(times) < 3 else 204, headers={"Retry-After": "1"})

    file = capture_file(tmp_path / "file", b"")
    async with serving(answer) as to:
        assert await invoke("replay", file, "--to", to) == 0
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


async def test_replay_tries_again_when_a_connection_breaks(invoke: Invoke, tmp_path: Path) -> None:
    tries = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readuntil(b"\r\n\r\nbody")
        if tries > 2:
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    file = capture_file(tmp_path / "file", b"body")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        to = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{WRITE_PATH}"
        assert await invoke("replay", file, "--to", to) == 0
    assert tries == 3


async def test_replay_gives_up_where_nobody_is(
    invoke: Invoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = capture_file(tmp_path / "file", b"1", b"2")
    words = ("replay", file, "--connections", "1", "--retry-for", "200ms")
    assert await invoke(*words, "--to", "http://127.0.0.1:1/") == 1
    shown = capsys.readouterr()
    assert "1 × no answer, 1 not sent" in shown.out
    assert "the first of no answer: Cannot connect" in shown.err


async def test_replay_sends_nothing_of_a_broken_file(tmp_path: Path) -> None:
    sent = False

    async def answer(_: web.Request) -> web.Response:
        nonlocal sent
        sent = True
        return web.Response(status=204)

    file = capture_file(tmp_path / "file", b"1", b"2", end="{}\n")
    async with serving(answer) as to, receiver("replay", file, "--to", to) as process:
        out, errors = await process.communicate()
    assert errors.decode() == (
        f"receiver: {file}, line 3: is not a request of `receiver capture`: received_at: "
        "is missing\n"
    )
    assert (out, process.returncode, sent) == (b"", 1, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "localhost:9201"), "must be a URL"),
        (("--to", "http:///x"), "must be a URL"),
        (("--connections", "0"), "a whole number from 1"),
        (("--to", "http://["), "must be a URL"),
        (("--retry-for", "soon"), "must be a duration"),
        ((), "FILE"),
    ],
)
async def test_replay_refuses(
    invoke: Invoke, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await invoke("replay", *words, *(["file"] if words else []))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9201", "http://127.0.0.1:9201"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:9201", "http://127.0.0.1:9201"),
        ("[::1]:9201", "http://[::1]:9201"),
        ("receiver:9201", "http://receiver:9201"),
    ],
)
def test_replay_goes_where_the_receiver_listens(
    make_settings: MakeSettings, listen: str, url: str
) -> None:
    assert make_settings(listen=listen).own_url == url
