"""A database URL is parsed as libpq parses it, and never shows its password."""

from __future__ import annotations

import pytest

from receiver.config.database_url import DatabaseAddress, parse_database_url
from receiver.errors import SettingsError
from tests.conftest import MakeSettings

SHAPE = "must be postgresql://"


def read(url: str) -> DatabaseAddress:
    return parse_database_url(url)


@pytest.mark.parametrize(
    ("url", "hosts", "database"),
    [
        ("postgresql://h/db", [("h", None)], "db"),
        ("postgres://h", [("h", None)], None),
        ("postgresql://", [("", None)], None),
        ("postgresql:///db", [("", None)], "db"),
        ("postgresql://:5433/db", [("", 5433)], "db"),
        ("postgresql://u:p@h1:1,h2,[::1]:3/db", [("h1", 1), ("h2", None), ("::1", 3)], "db"),
        ("postgresql://[fe80::1%25eth0]:1/db", [("fe80::1%eth0", 1)], "db"),
        ("postgresql://u@%2Ftmp%2Fsockets:5432/db", [("/tmp/sockets", 5432)], "db"),
        ("postgresql:///db?host=/var/run/postgresql", [("/var/run/postgresql", None)], "db"),
        ("postgresql:///?host=a,b&port=1,2&dbname=d%40b", [("a", 1), ("b", 2)], "d@b"),
        ("postgresql://h/db?host=other&port=7", [("other", 7)], "db"),
        ("postgresql://a,b/db?port=7", [("a", 7), ("b", 7)], "db"),
        ("postgresql://h/%EA%B3%B5%EC%9E%A5", [("h", None)], "공장"),
        ("postgresql:///db?hostaddr=10.0.0.1", [("10.0.0.1", None)], "db"),
        ("postgresql://h:7/db?hostaddr=10.0.0.1", [("10.0.0.1", 7)], "db"),
        ("postgresql://h:7/db?host=one,two", [("one", 7), ("two", 7)], "db"),
    ],
)
def test_hosts_and_database(
    url: str, hosts: list[tuple[str, int | None]], database: str | None
) -> None:
    assert (list(read(url).hosts), read(url).database) == (hosts, database)


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("postgresql://h/db", None, None),
        ("postgresql://u@h/db", "u", None),
        ("postgresql://u:@h/db", "u", ""),
        ("postgresql://u%40tenant:p%2Fw%25@h/db", "u@tenant", "p/w%"),
        ("postgresql://u@server:p@h/db", "u@server", "p"),
        ("postgresql://u:p@ss@h/db", "u", "p@ss"),
        ("postgresql://u:a:b@h/db", "u", "a:b"),
        ("postgresql://u:p+w@h/db", "u", "p+w"),
        ("postgresql://h/db?user=a&password=b+c", "a", "b+c"),
    ],
)
def test_user_and_password(url: str, user: str | None, password: str | None) -> None:
    assert (read(url).user, read(url).password) == (user, password)


@pytest.mark.parametrize(
    "url",
    [
        "host=h port=5432 password=hunter2 user=u",
        "password=hunter2://",
        "u:hunter2@h/db",
        "hunter2",
        "postgresql:u:hunter2@h/db",
        "postgresql://u:hun/ter2@h/db",
        "postgresql://u:hun#ter2@h/db",
        "postgresql://u:hun[ter2@h/db",
        "postgresql://u:12?hunter2@h/db",
        "postgresql://u:12?hunter2=x@h/db",
        "postgresql://u:12/3?hun=ter2@h/db",
        "postgresql://u:p@h:hunter2/db",
        "postgresql://u:p@h:1,h:hunter2/db",
        "postgresql://u:hunter2@h:99999/db",
        "postgresql://u:hunter2@::1/db",
        "postgresql://u:hunter2@a,,b/db",
        "postgresql://u:hunter2%00@h/db",
        "postgresql://u:hunter2%ff@h/db",
        "postgresql://u:hunter2@h/db?=x",
        "postgresql://u:hunter2@h/db?sslmode",
        "mysql+hun://u:hunter2@h/db",
        "jdbc:postgresql://u:hunter2@h/db",
    ],
)
def test_what_is_no_url_shows_nothing_of_itself(url: str, make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="RECEIVER_DATABASE_URL: must ") as wrong:
        make_settings(database_url=url)
    assert "hunter2" not in str(wrong.value)
    assert "ter2" not in str(wrong.value)


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+asyncpg", "jdbc:postgresql", "http"])
def test_another_scheme_is_named(scheme: str) -> None:
    with pytest.raises(
        ValueError, match=rf"postgresql:// or postgres://, not {scheme}://".replace("+", r"\+")
    ):
        read(f"{scheme}://u:p@h/db")


@pytest.mark.parametrize(
    ("query", "settings"),
    [
        ("search_path=a,b&statement_timeout=5s", {"search_path": "a,b", "statement_timeout": "5s"}),
        ("options=-csearch_path%3Dplant", {"search_path": "plant"}),
        ("options=-c%20geqo%3Doff%20--work-mem=1MB", {"geqo": "off", "work_mem": "1MB"}),
        (r"options=-c%20search_path%3Da,\%20b", {"search_path": "a, b"}),
        ("application_name=line-3", {"application_name": "line-3"}),
    ],
)
def test_settings_of_the_server(query: str, settings: dict[str, str]) -> None:
    assert read(f"postgresql://h/db?{query}").settings == settings


def test_options_that_are_no_settings_go_to_the_server_as_they_are() -> None:
    address = read("postgresql://h/db?options=endpoint%3Dep-cool")
    assert address.parameters["options"] == "endpoint=ep-cool"
    assert not address.settings


def test_parameters_that_change_nothing_are_named() -> None:
    address = read("postgresql://h/db?pgbouncer=true&keepalives_idle=30&channel_binding=require")
    assert address.ignored == ("channel_binding", "keepalives_idle", "pgbouncer")
    assert not address.settings


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslmode=on", "sslmode must be one of disable, allow"),
        ("schema=plant", "schema is not supported: write search_path="),
        ("gssencmode=require", "gssencmode must be one of"),
        ("replication=database", "replication must be one of"),
        ("connect_timeout=10s", "connect_timeout must be a number of seconds"),
        ("target_session_attrs=master", "target_session_attrs must be one of"),
        ("host=a,b&port=1,2,3", "2 hosts cannot have 3 ports"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(f"postgresql:///db?{query}")


def test_the_place_has_no_secrets() -> None:
    url = "postgresql://u:hunter2@h1:1,[::1]:3/db?password=hunter2&sslpassword=hunter2"
    assert read(url).place == "h1:1,[::1]:3/db"
    assert "hunter2" not in repr(read(url))


def test_defaults_come_after_what_the_url_says() -> None:
    defaults = {"host": "other", "port": "7", "user": "other", "dbname": "other"}
    address = parse_database_url("postgresql://u@h/?service=plant", defaults)
    assert (address.hosts, address.user, address.database) == ((("h", None),), "u", "other")
    address = parse_database_url("postgresql:///db?service=plant", defaults)
    assert (address.hosts, address.user, address.database) == ((("other", 7),), "other", "db")
