from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.programs import require_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 60.0
RECEIVER = [sys.executable, "-m", "receiver"]
COUNT = "SELECT count(*) FROM app_logs"
DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Yield a directory that the embedded database's user can access, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="receiver-demo-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**variables: str) -> dict[str, str]:
    own = {name: text for name, text in os.environ.items() if not name.startswith("RECEIVER_")}
    return {**own, **variables}


@contextmanager
def demo(data_dir: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demo in the background, its output in the file `output`; kill it if it still runs."""
    command = [*RECEIVER, "demo", "--data-dir", str(data_dir), "--scrape-interval", "500ms", *flags]
    with (data_dir / "output").open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=data_dir,
            env=environment(TMPDIR=str(data_dir)),
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object], output: Path) -> None:
    """Wait for a condition while the demo runs."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)


def processes(word: str) -> list[int]:
    """Return the running processes that have the word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if word.encode() in line and int(path.parts[2]) != os.getpid():
            found.append(int(path.parts[2]))
    return found


def prometheus_directory(output: Path) -> str:
    """Return the directory that only the demo's Prometheus and its watcher have as an argument."""
    (address,) = re.findall(r"Prometheus \S+, http://(\S+)", output.read_text())
    return f"--web.listen-address={address}"


def run_demo(data_dir: Path, sender: str, duration: str) -> str:
    port = free_port()
    listen = f"127.0.0.1:{port}"
    flags = ("--sender", sender, "--duration", duration, "--listen", listen)
    with demo(data_dir, *flags) as process:
        code = process.wait(timeout=120)
    output = (data_dir / "output").read_text()
    assert code == 0, output
    assert f"http://{listen}/api/v1/write" in output
    assert str(data_dir / "demo") in output
    assert re.search(r"^[1-9]\d* rows were written$", output, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d +station-\d +\d\d:\d\d:\d\d +[A-Z]", output, re.MULTILINE), (
        "no row in app_logs"
    )
    reading = r"^\d\d:\d\d:\d\d +station-\d +[AB] +[\d.]+ +(true|false) +\d+ *$"
    assert re.search(reading, output, re.MULTILINE), "no row in press_readings"
    assert not processes(str(data_dir))
    return output


def test_rows_come_by_the_builtin_sender(data_dir: Path) -> None:
    output = run_demo(data_dir, "builtin", "15s")
    assert re.search(r"^sender +the built-in sender$", output, re.MULTILINE)


@pytest.mark.end_to_end
def test_rows_come_by_prometheus(data_dir: Path) -> None:
    require_program("prometheus")
    # Prometheus begins to send what it has scraped after some seconds.
    run_demo(data_dir, "prometheus", "20s")
    assert not processes(prometheus_directory(data_dir / "output"))


def test_without_rows_the_demo_fails(data_dir: Path) -> None:
    flags = ("--duration", "1ms", "--listen", "127.0.0.1:0", "--tables-file", "mine.yaml")
    with demo(data_dir, *flags) as process:
        assert process.wait(timeout=120) == 1
    assert "RECEIVER_TABLES_FILE has no effect" in (data_dir / "output").read_text()
    assert not processes(str(data_dir))


def test_ctrl_c_ends_the_demo_and_all_it_runs(data_dir: Path) -> None:
    output = data_dir / "output"
    with demo(data_dir, "--sender", "builtin", "--listen", f"127.0.0.1:{free_port()}") as process:
        wait_for(process, lambda: " OK " in output.read_text(), output)
        (psql,) = re.findall(r"^psql +(.+)$", output.read_text(), re.MULTILINE)
        asked = subprocess.run([*shlex.split(psql), "-Atc", COUNT], capture_output=True, check=True)
        assert int(asked.stdout) > 0
        (page,) = re.findall(r"^page +(\S+)", output.read_text(), re.MULTILINE)
        with urllib.request.urlopen(page) as response:
            assert b"Data is arriving." in response.read()
        (application,) = re.findall(r"^applications +(\S+)", output.read_text(), re.MULTILINE)
        with urllib.request.urlopen(application) as response:
            assert b"app_status" in response.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0, output.read_text()
    assert not processes(str(data_dir))


@pytest.mark.end_to_end
def test_a_killed_demo_leaves_no_prometheus_behind(data_dir: Path) -> None:
    require_program("prometheus")
    output = data_dir / "output"
    with demo(data_dir, "--sender", "prometheus", "--listen", "127.0.0.1:0") as process:
        wait_for(process, lambda: "sender" in output.read_text(), output)
        own = prometheus_directory(output)
        wait_for(process, lambda: processes(own), output)
        process.kill()
        deadline = time.monotonic() + DEADLINE
        while processes(own):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    # The database stays, as after any kill; the next start takes it over, and here ends it.
    with demo(data_dir, "--duration", "1ms", "--listen", "127.0.0.1:0") as process:
        process.wait(timeout=120)
    assert not processes(str(data_dir))


@pytest.mark.parametrize("older", [False, True])
def test_the_database_of_a_receiver_with_other_tables_is_left_alone(
    data_dir: Path, empty_database_url: str, older: bool
) -> None:
    """Otherwise its receivers would no longer store anything."""
    if older:
        statement = "CREATE TABLE app_logs (id INT)"
        asyncio.run(run_in(empty_database_url, statement))
    else:
        migrate = [*RECEIVER, "migrate", "--database-url", empty_database_url]
        subprocess.run(migrate, env=environment(), cwd=data_dir, check=True)
    with demo(data_dir, "--database-url", empty_database_url) as process:
        assert process.wait(timeout=60) == 1
    (*_, line) = (data_dir / "output").read_text().splitlines()
    differs = (
        "those of an older version" if older else "table press_readings is only in this receiver"
    )
    assert f"names the database of a receiver with other tables ({differs})" in line
    found = asyncio.run(run_in(empty_database_url, "SELECT to_regclass('press_readings')"))
    assert found is None


async def run_in(url: str, statement: str) -> object:
    """Run a statement; return the first value of its result."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def test_a_port_that_is_taken_is_said_in_one_line(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with demo(data_dir, "--listen", listen) as process:
            assert process.wait(timeout=120) == 1
    (line,) = (data_dir / "output").read_text().splitlines()
    assert line.startswith(
        f"receiver: --listen={listen}: cannot listen there: Address already in use"
    )
    assert not processes(str(data_dir))


def test_the_health_check_of_the_image_tells_whether_the_receiver_is_ready(data_dir: Path) -> None:
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    program, *arguments = json.loads(check)
    assert program == "receiver"
    port = free_port()

    def healthy() -> bool:
        variables = environment(RECEIVER_LISTEN=f"0.0.0.0:{port}")  # as in the image
        asked = subprocess.run([*RECEIVER, *arguments], env=variables, cwd=data_dir, check=False)
        assert asked.returncode in {0, 1}
        return asked.returncode == 0

    assert not healthy()
    with demo(data_dir, "--sender", "builtin", "--listen", f"127.0.0.1:{port}") as process:
        wait_for(process, healthy, data_dir / "output")
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert not healthy()


def test_another_start_goes_on_with_the_same_sources(
    data_dir: Path, empty_database_url: str
) -> None:
    for _ in range(2):
        flags = ("--sender", "builtin", "--duration", "8s", "--listen", "127.0.0.1:0")
        with demo(data_dir, *flags, "--database-url", empty_database_url) as process:
            assert process.wait(timeout=120) == 0, (data_dir / "output").read_text()
    names = "SELECT string_agg(DISTINCT labels ->> 'instance', ' ') FROM sources"
    found = asyncio.run(run_in(empty_database_url, names))
    assert found == "station-1 station-2 station-3"
