"""The program in hostile environments: signals, closed streams, users without a name."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from receiver.embedded import EmbeddedPostgres
from tests.faults.processes import Database, is_alive, postmaster, replica, replicas
from tests.faults.requests import request, stored
from tests.faults.test_shutdown import data_dir
from tests.faults.wire import post
from tests.waiting import until

__all__ = ["data_dir"]

PROGRAM = [sys.executable, "-m", "receiver"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this to a process")


@pytest.fixture
def environment() -> dict[str, str]:
    """Return the environment without settings of the receiver."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}


def shell(command: str, environment: dict[str, str], directory: Path) -> tuple[int, str]:
    """Run a shell command; return its exit code and its standard error."""
    ran = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return ran.returncode, ran.stderr.decode()


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
async def test_every_signal_that_ends_it_lets_it_end_in_order(
    number: str, data_dir: Path, tmp_path: Path
) -> None:
    async with replica(tmp_path, None, data_dir=data_dir) as one:
        assert (await post(one.port, request(0))).status == 204
        pid = postmaster(data_dir)
        for _ in range(3):
            one.process.send_signal(getattr(signal, number))
        assert await one.ended() == 0
        assert not is_alive(pid)
        assert one.log.rstrip().endswith("stopped")
        assert "Traceback" not in one.log


async def test_a_signal_of_somebody_elses_does_not_end_it(
    database: Database, tmp_path: Path
) -> None:
    async with replica(tmp_path, database.url) as one:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            one.process.send_signal(number)
        assert (await post(one.port, request(0))).status == 204
        assert await one.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_a_signal_at_the_start_ends_it_without_a_word(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals, share: float
) -> None:
    began = time.monotonic()
    shell("exec python -m receiver --version", environment, tmp_path)
    startup = time.monotonic() - began
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    with subprocess.Popen(
        [*PROGRAM, "--listen", "127.0.0.1:0", "--database-url", url],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # At any point of the startup; before Python has initialized, the kernel ends the process.
        time.sleep(max(0.1, share * startup))
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode in {0, 128 + number, -number}
    assert "Traceback" not in said


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare here")
def test_as_the_first_process_it_ends_from_the_first_moment_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    program = " ".join(PROGRAM)
    command = (
        f"exec unshare --pid --fork --mount-proc --kill-child "
        f"bash -c '(sleep 0.4; kill -TERM 1) & "
        f"exec {program} --listen 127.0.0.1:0 --database-url {url}'"
    )
    code, said = shell(command, environment, tmp_path)
    assert code in {0, 128 + signal.SIGTERM}
    assert "Traceback" not in said


# --- the embedded database ------------------------------------------------------------------------


async def test_an_embedded_database_that_dies_is_started_again(
    data_dir: Path, tmp_path: Path
) -> None:
    async with replica(tmp_path, None, data_dir=data_dir) as one:
        assert (await post(one.port, request(0))).status == 204
        before = postmaster(data_dir)
        os.kill(before, signal.SIGKILL)
        await until(lambda: "and is restarted" in one.log)

        async def served() -> bool:
            return (await post(one.port, request(1))).status == 204

        await until(served)
        url = EmbeddedPostgres(data_dir).running_url()
        assert url is not None
        assert await stored(url) == 2
        assert postmaster(data_dir) != before
        assert await one.terminate() == 0


async def test_it_ends_in_one_line_if_it_cannot_be_started_again(
    data_dir: Path, tmp_path: Path
) -> None:
    async with replica(tmp_path, None, data_dir=data_dir) as one:
        settings = data_dir / "postgres/postgresql.conf"
        settings.write_text("nonsense = 1\n")
        os.kill(postmaster(data_dir), signal.SIGKILL)
        assert await one.ended() == 1
        assert 'unrecognized configuration parameter "nonsense"' in one.log.splitlines()[-1]
        assert "Traceback" not in one.log


# --- standard streams -----------------------------------------------------------------------------


async def test_it_serves_with_closed_standard_streams(database: Database, tmp_path: Path) -> None:
    async with replicas(tmp_path, database.url) as (one,):
        closed = f"exec {' '.join(PROGRAM)} serve <&- >&- 2>&-"
        await one.launch("bash", "-c", closed)
        await until(one.is_ready)
        assert (await post(one.port, request(0))).status == 204
        assert {target(one.pid, number) for number in range(3)} == {"/dev/null"}
        assert await one.terminate() == 0


def target(pid: int, number: int) -> str:
    """Return the target of a file descriptor of a process."""
    return str(Path(f"/proc/{pid}/fd/{number}").readlink())


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("| head -0", 128 + signal.SIGPIPE, ""),
        ("| head -9", 128 + signal.SIGPIPE, ""),
        ("> /dev/full", 1, "receiver: cannot write the output: No space left on device\n"),
        (">&-", 1, "receiver: cannot write the output: Bad file descriptor\n"),
    ],
)
@pytest.mark.parametrize("command", ["codes list", "logs", "doctor", "completion bash"])
async def test_output_that_cannot_be_written(
    environment: dict[str, str],
    database: Database,
    tmp_path: Path,
    command: str,
    output: str,
    code: int,
    said: str,
) -> None:
    async with replica(tmp_path, database.url):
        pass
    environment["RECEIVER_DATABASE_URL"] = database.url
    program = f"{' '.join(PROGRAM)} {command} {output}; exit ${{PIPESTATUS[0]}}"
    ended, told = shell(program, environment, tmp_path)
    assert told == said
    # `head` may exit before or after, and rich has its own exit code.
    assert ended == code or (output.startswith("|") and ended in {0, 1})


def test_a_terminal_that_closes_ends_it(environment: dict[str, str], tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "--listen", "127.0.0.1:0", "--database-url", url],
        env=environment,
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # The first terminal that a session opens becomes its controlling terminal.
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509
    ) as process:
        os.close(theirs)
        while b"waiting for the database" not in os.read(ours, 4096):
            pass
        os.close(ours)
        assert process.wait(30) == 0
