"""Real senders and real processes with credentials and certificates."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import issue
from tests.conftest import MakeSettings
from tests.end_to_end.test_prometheus import Application, exposing, prometheus
from tests.faults.processes import Replica, free_port, replicas
from tests.integration.test_authentication import write_credentials
from tests.programs import require_program
from tests.receivers import receiving
from tests.waiting import until

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]


def certificates(directory: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return a server's settings for mTLS, and the `tls_config` of a sender that it accepts."""
    authority, sender = issue("authority", authority=True), directory / "sender"
    sender.mkdir()
    (directory / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    issue("sender", authority).write(sender)
    files = issue("server", authority).write(directory)
    return files | {"tls_client_ca_file": directory / "ca.pem"}, {
        "ca_file": str(directory / "ca.pem"),
        "cert_file": str(sender / "cert.pem"),
        "key_file": str(sender / "key.pem"),
    }


async def test_a_real_prometheus_is_let_in_by_each_kind_of_credential(
    database_url: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    require_program("prometheus")
    files, tls = certificates(tmp_path)
    tokens = write_credentials(tmp_path / "tokens.yml", tokens=["a-token"])
    users = write_credentials(tmp_path / "users.yml", [("prometheus", "a-password")])
    password = tmp_path / "password"
    password.write_text("a-password\n")
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "authorization": ({"credentials_file": tokens}, {"credentials": "a-token"}),
        "basic_auth": (
            {"credentials_file": users},
            {"username": "prometheus", "password_file": str(password)},
        ),
        "tls_config": (files, tls),
    }
    application = Application()
    async with AsyncExitStack() as stack:
        remotes = []
        for kind, (settings, sent) in kinds.items():
            receiver = await stack.enter_async_context(
                receiving(make_settings(database_url=database_url, **settings), wait=False)
            )
            own = {"write_relabel_configs": [{"target_label": "way", "replacement": kind}]}
            remotes.append({"url": receiver.url(), kind: sent, **own})
        target = await stack.enter_async_context(exposing(application.expose))
        configuration = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "a", "static_configs": [{"targets": [target]}]}],
            "remote_write": [
                {**remote, "queue_config": {"batch_send_deadline": "200ms"}} for remote in remotes
            ],
        }
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)

        async def all_have_written() -> bool:
            rows = await connection.fetch(
                "SELECT DISTINCT s.labels ->> 'way' AS way FROM app_logs l "
                "JOIN sources s ON s.id = l.source_id"
            )
            return {row["way"] for row in rows} == set(kinds)

        async with prometheus(tmp_path, yaml.safe_dump(configuration)):
            await until(all_have_written)


@asynccontextmanager
async def launched(
    directory: Path, database_url: str | None = None, **settings: object
) -> AsyncIterator[Replica]:
    url = database_url or "postgresql://nobody@127.0.0.1:1/none"
    async with replicas(directory, url, 1, **settings) as (one,):
        await one.launch()
        yield one


async def asked(url: str, token: str) -> int:
    """Send a request on its own connection, to any worker; return the status."""
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url, ssl=False) as response,
    ):
        return response.status


async def test_every_worker_follows_the_files(database_url: str, tmp_path: Path) -> None:
    files = issue("server").write(tmp_path)
    credentials = write_credentials(tmp_path / "credentials.yml", tokens=["old"])
    settings = {"workers": 2, "credentials_file": credentials, **files}
    async with launched(tmp_path, database_url, **settings) as one:
        await until(lambda: one.log.count("listening on https://") == 2)
        url = f"https://127.0.0.1:{one.port}/metrics"

        async def answers(token: str, status: int) -> bool:
            try:
                found = [await asked(url, token) for _ in range(20)]
            except aiohttp.ClientError:
                return False
            return set(found) == {status}

        await until(lambda: answers("old", 200))
        write_credentials(credentials, tokens=["new"])
        await until(lambda: answers("new", 200))
        assert await answers("old", 401)
        environment = {"RECEIVER_LISTEN": f"127.0.0.1:{one.port}"}
        environment |= {f"RECEIVER_{name.upper()}": str(file) for name, file in files.items()}
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "receiver", "health"),
            env=environment,
            cwd=tmp_path,
        )
        assert await asking.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", ["credentials", "certificate"])
async def test_a_broken_file_ends_the_start_with_one_line(
    tmp_path: Path, workers: int, fault: str
) -> None:
    files = issue("server").write(tmp_path)
    broken = {"credentials": "credentials_file", "certificate": "tls_key_file"}[fault]
    files[broken] = tmp_path / "broken"
    files[broken].write_text("hunter2: {")
    async with launched(tmp_path, None, workers=workers, **files) as one:
        assert await one.ended() == 1
        assert f"receiver: RECEIVER_{broken.upper()}={tmp_path / 'broken'}" in one.log
        assert "Traceback" not in one.log
        assert "hunter2" not in one.log


@pytest.mark.parametrize("sender", ["prometheus", "builtin"])
async def test_the_demo_lets_its_own_sender_in(
    empty_database_url: str, tmp_path: Path, sender: str
) -> None:
    if sender == "prometheus":
        require_program("prometheus")
    files = issue("server").write(tmp_path)
    words = ("demo", "--sender", sender, "--scrape-interval", "1s")
    environment = {
        "PATH": sys.prefix + "/bin:/usr/local/bin:/usr/bin:/bin",
        "RECEIVER_BEARER_TOKEN": "a-token",
        "RECEIVER_LISTEN": f"127.0.0.1:{free_port()}",
        "RECEIVER_DATABASE_URL": empty_database_url,
    } | {f"RECEIVER_{name.upper()}": str(file) for name, file in files.items()}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *words),
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    connection = await asyncpg.connect(empty_database_url)

    async def has_written() -> bool:
        assert running.returncode is None
        with suppress(asyncpg.UndefinedTableError):
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM app_logs)"))
        return False

    await until(has_written)
    await connection.close()
    running.terminate()
    said, _ = await running.communicate()
    assert running.returncode == 0
    assert b"a-token" not in said
