"""Connections follow the database URL, and errors name what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from receiver.config.database_url import parse_database_url
from receiver.embedded.place import url_at
from receiver.errors import SettingsError, SetupError
from receiver.storage.connection.connecting import open_connection, report_ignored
from receiver.storage.connection.encryption import require_home
from tests import certificates
from tests.conftest import MakeSettings
from tests.roles import as_role

FOREIGN = {
    "PGHOST": "elsewhere.invalid",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nothing",
    "PGSERVICE": "nowhere",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nonexistent",
    "PGSSLNEGOTIATION": "direct",
    "PGTARGETSESSIONATTRS": "standby",
    "PGGSSLIB": "none",
    "PGOPTIONS": "-c search_path=nowhere",
}


@pytest.fixture(autouse=True)
def _report_again() -> Iterator[None]:
    report_ignored.cache_clear()
    yield
    report_ignored.cache_clear()


def extend(url: str, parameters: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameters}"


async def show(settings: MakeSettings, url: str, name: str) -> str:
    """Return the value of a server setting in a session of the receiver."""
    connection = await open_connection(settings(database_url=url))
    value = await connection.fetchval("SELECT current_setting($1)", name)
    await connection.close()
    return str(value)


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ("application_name=line-3", "application_name", "line-3"),
        ("statement_timeout=5000", "statement_timeout", "5s"),
        ("options=-c%20work_mem%3D8MB", "work_mem", "8MB"),
        ("timezone=Asia/Seoul", "TimeZone", "Asia/Seoul"),
        ("search_path=public", "search_path", "public"),
        ('search_path="$user",nowhere', "search_path", '"$user",nowhere'),
        ("synchronous_commit=off", "synchronous_commit", "on"),
        ("synchronous_commit=remote_apply", "synchronous_commit", "remote_apply"),
        ("connect_timeout=10&load_balance_hosts=random", "application_name", "receiver"),
        ("target_session_attrs=read-write&sslmode=prefer", "application_name", "receiver"),
        ("sslrootcert=system&passfile=/nonexistent", "application_name", "receiver"),
    ],
)
async def test_parameters_that_work(
    database_url: str, make_settings: MakeSettings, parameters: str, name: str, value: str
) -> None:
    assert await show(make_settings, extend(database_url, parameters), name) == value


async def test_a_value_is_read_as_it_is_whatever_backslashes_mean(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"ALTER DATABASE {name} SET standard_conforming_strings = off")
    strange = r"it's \' a \\ name"
    url = extend(database_url, f"application_name={quote(strange)}")
    assert await show(make_settings, url, "application_name") == strange


async def test_parameters_that_change_nothing_are_logged_once(
    database_url: str, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        url = extend(database_url, "gssencmode=disable&keepalives=1")
        await show(make_settings, url, "timezone")
    said = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert said == ["RECEIVER_DATABASE_URL: parameters that are ignored: gssencmode, keepalives"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("keep_alive=1", 'unrecognized configuration parameter "keep_alive"'),
        ("statement_timeout=soon", 'invalid value for parameter "statement_timeout": "soon"'),
        ("shared_buffers=1GB", 'parameter "shared_buffers" cannot be changed'),
        ("options=endpoint%3Dep-cool", "endpoint=ep-cool"),
        ("search_path=nowhere,public", "search_path begins with schema nowhere,"),
        ('search_path="no Where"', 'search_path begins with schema "no Where",'),
        ("options=-csearch_path%3DNowhere", "CREATE SCHEMA Nowhere"),
    ],
)
async def test_a_parameter_that_the_server_refuses_is_named(
    database_url: str, make_settings: MakeSettings, parameters: str, message: str
) -> None:
    with pytest.raises(SetupError, match=f"RECEIVER_DATABASE_URL: .*{message}") as wrong:
        await open_connection(make_settings(database_url=extend(database_url, parameters)))
    assert "\n" not in str(wrong.value)


async def test_a_schema_that_the_role_may_not_use_is_named(
    database_url: str, connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    role = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"CREATE SCHEMA closed; CREATE ROLE {role} LOGIN")
    url = as_role(database_url, role)
    try:
        with pytest.raises(SetupError, match="schema closed, which the role may not use"):
            await open_connection(make_settings(database_url=extend(url, "search_path=closed")))
    finally:
        await connection.execute(f"DROP ROLE {role}")


async def test_several_hosts_are_tried_in_turn(
    database_url: str, make_settings: MakeSettings
) -> None:
    address = parse_database_url(database_url)
    ((host, port),) = address.hosts
    hosts = f"127.0.0.1:1,[::1]:1,{quote(host, safe='')}:{port or 5432}"
    url = f"postgresql://{address.user}@{hosts}/{address.database}"
    assert await show(make_settings, url, "application_name") == "receiver"


async def test_variables_for_other_servers_do_not_reach_the_embedded_one(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ((host, _),) = parse_database_url(database_url).hosts
    if not host.startswith("/"):
        pytest.skip("RECEIVER_TEST_DATABASE_URL names another server")
    passwords = tmp_path / "passwords"
    passwords.write_text("*:*:*:*:hunter2\n")
    passwords.chmod(0o644)
    for name, value in {**FOREIGN, "PGPASSFILE": str(passwords)}.items():
        monkeypatch.setenv(name, value)
    assert await show(make_settings, url_at(host), "application_name") == "receiver"


async def test_a_service_names_what_the_url_does_not(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = parse_database_url(database_url)
    ((host, port),) = address.hosts
    file = tmp_path / "services"
    file.write_text(
        f"[plant]\nhost={host}\nport={port or 5432}\nuser={address.user}\n"
        f"dbname={address.database}\napplication_name=of the service\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    url = "postgresql:///?service=plant"
    assert await show(make_settings, url, "application_name") == "of the service"
    assert await show(make_settings, f"{url}&application_name=mine", "application_name") == "mine"
    with pytest.raises(SettingsError, match=f"service=line is not defined in {file}"):
        await open_connection(make_settings(database_url="postgresql:///?service=line"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslrootcert=/nonexistent/ca.pem", "cannot read sslrootcert=/nonexistent/ca.pem: No such"),
        ("sslcrl=/nonexistent/crl.pem", "cannot read sslcrl=/nonexistent/crl.pem"),
        ("sslcert={cert}&sslkey=/nonexistent", "cannot read sslkey=/nonexistent"),
        ("sslcert={cert}&sslkey={cert}", "sslcert={cert}, sslkey={cert}: invalid content"),
        ("sslrootcert={text}", "sslrootcert={text}: invalid content"),
    ],
)
@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_a_file_that_is_no_certificate_is_named(
    make_settings: MakeSettings, tmp_path: Path, query: str, message: str, mode: str
) -> None:
    text, cert = tmp_path / "text", tmp_path / "cert.pem"
    text.write_text("no certificate\n")
    certificates.issue("test").write(tmp_path)
    shown = {"text": str(text), "cert": str(cert)}
    url = f"postgresql://localhost:1/db?sslmode={mode}&{query.format(**shown)}"
    with pytest.raises(SettingsError) as wrong:
        await open_connection(make_settings(database_url=url))
    assert message.format(**shown) in str(wrong.value)


def test_a_home_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setenv("HOME", "/home/other")
    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(SetupError, match=r"certificates in /home/other/\.postgresql: .*HOME"):
        require_home()
