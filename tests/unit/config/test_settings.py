"""The sources of settings, their precedence, and the errors for wrong values."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource

import receiver.config.settings
from receiver.config.settings import SECRETS, Settings, default_data_dir, find_ignored
from receiver.config.value_types import parse_address, parse_duration
from receiver.errors import SettingsError
from receiver.rows.columns import POSTGRES_EPOCH

SECRET = "postgresql://user:hunter2@db/logs"


@pytest.fixture(autouse=True)
def secrets_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Unset everything, in a fresh working directory."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(receiver.config.settings, "SECRETS_DIR", directory)
    for name in os.environ:
        if name.upper().startswith("RECEIVER_"):
            monkeypatch.delenv(name)
    return directory


def load_flags(*words: str) -> Settings:
    parser = ArgumentParser()
    flags: CliSettingsSource[Settings] = CliSettingsSource(Settings, root_parser=parser)
    return Settings.load(flags(parsed_args=parser.parse_args(words)))


# --- sources --------------------------------------------------------------------------------------


def test_the_contract_of_defaults() -> None:
    settings = Settings.load()
    assert settings.listen == "127.0.0.1:9201"
    assert settings.address == ("127.0.0.1", 9201)
    assert settings.database_url is None
    assert list(settings.catalogue.by_metric) == ["app_status", "ocr_value"]
    assert settings.ocr_unit == "seconds"
    assert settings.pair_timeout == timedelta(hours=2)
    assert settings.compress_after == timedelta(days=7)
    assert settings.retention is None
    assert settings.rejected_retention == timedelta(days=30)
    assert settings.data_dir == default_data_dir()


Place = Callable[[pytest.MonkeyPatch, Path, str], None]


def in_environment(monkeypatch: pytest.MonkeyPatch, _: Path, value: str) -> None:
    monkeypatch.setenv("RECEIVER_LISTEN", value)


def in_dotenv(_: pytest.MonkeyPatch, __: Path, value: str) -> None:
    Path(".env").write_text(f"# a comment\nOTHER=1\nRECEIVER_LISTEN={value}\n")


def in_secrets(_: pytest.MonkeyPatch, directory: Path, value: str) -> None:
    (directory / "RECEIVER_LISTEN").write_text(f"{value}\n")


PLACES: list[Place] = [in_environment, in_dotenv, in_secrets]


@pytest.mark.parametrize("place", PLACES)
def test_every_source_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, secrets_dir: Path
) -> None:
    place(monkeypatch, secrets_dir, "h:1")
    assert Settings.load().listen == "h:1"
    assert load_flags().listen == "h:1"


def test_the_first_source_wins(monkeypatch: pytest.MonkeyPatch, secrets_dir: Path) -> None:
    for number, place in reversed(list(enumerate(PLACES, 1))):
        place(monkeypatch, secrets_dir, f"h:{number}")
        assert load_flags().listen == f"h:{number}"
        assert load_flags("--listen", "flag:1").listen == "flag:1"


def test_sources_complete_each_other(monkeypatch: pytest.MonkeyPatch, secrets_dir: Path) -> None:
    monkeypatch.setenv("RECEIVER_STATUS_METRIC", "from_environment")
    Path(".env").write_text("RECEIVER_OCR_METRIC=from_dotenv\n")
    (secrets_dir / "RECEIVER_DATABASE_URL").write_text(f"{SECRET}\n")
    settings = load_flags("--listen", "flag:1")
    assert settings.listen == "flag:1"
    assert settings.status_metric == "from_environment"
    assert settings.ocr_metric == "from_dotenv"
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == SECRET


def test_values_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_LISTEN", "h:1")
    assert Settings.load(listen="h:2").listen == "h:2"


def test_no_secrets_directory_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(receiver.config.settings, "SECRETS_DIR", tmp_path / "missing")
    assert Settings.load() == Settings.load()


def test_a_secrets_file_named_in_lower_case(secrets_dir: Path) -> None:
    (secrets_dir / "receiver_database_password").write_text("hunter2\n")
    settings = Settings.load()
    assert settings.database_password is not None
    assert settings.database_password.get_secret_value() == "hunter2"


def test_what_has_another_prefix_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN", "h:1")
    monkeypatch.setenv("DATABASE_URL", SECRET)
    Path(".env").write_text("LISTEN=h:2\nUNKNOWN=3\n")
    assert Settings.load().listen == "127.0.0.1:9201"
    assert Settings.load().database_url is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), True), (("--no-migrate-on-start",), False), (("--migrate-on-start",), True)],
)
def test_a_switch(words: tuple[str, ...], expected: bool) -> None:
    assert load_flags(*words).migrate_on_start is expected


def test_every_setting_has_a_flag_but_those_that_are_secret_as_a_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        load_flags("--help")
    shown = capsys.readouterr().out
    for name in Settings.model_fields:
        secret = name in {"database_password", "bearer_token"}
        assert (f"--{name.replace('_', '-')}" in shown) is not secret


def test_settings_are_frozen() -> None:
    settings = Settings.load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.listen = "h:1"  # type: ignore[misc]  # that is the point
    assert settings.listen == "127.0.0.1:9201"


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("5s", timedelta(seconds=5)),
        ("0s", timedelta()),
        ("1.5s", timedelta(milliseconds=1500)),
        ("2m", timedelta(minutes=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1h1m1s1ms", timedelta(hours=1, minutes=1, seconds=1, milliseconds=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
    ],
)
def test_a_duration(text: str, expected: timedelta) -> None:
    assert Settings.load(pair_linger=text).pair_linger == expected


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", "5S", "-5s", "+5s", "5sec", "1h30", "1..5s", "5µs", "P1D", "٣s"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load(pair_timeout=text)
    expected = f"RECEIVER_PAIR_TIMEOUT={text}: must be a duration such as 250ms, 5s, 1h30m or 7d"
    assert str(refusal.value) == expected


@pytest.mark.parametrize(("text", "expected"), [("off", None), ("30d", timedelta(days=30))])
def test_an_age_may_be_off(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: timedelta | None
) -> None:
    assert load_flags("--compress-after", text).compress_after == expected
    monkeypatch.setenv("RECEIVER_RETENTION", text)
    assert Settings.load().retention == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("never", "must be a duration such as 250ms, 5s, 1h30m or 7d, or off"),
        ("3m", "must be 1h or longer (m is for minutes), or off"),
        ("0s", "must be 1h or longer (m is for minutes), or off"),
    ],
)
def test_what_is_no_age(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load(retention=text)
    assert str(refusal.value) == f"RECEIVER_RETENTION={text}: {reason}"


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    assert parse_duration(f"{hours}h{minutes}m{seconds}s{milliseconds}ms") == expected


def test_a_duration_that_is_one_already() -> None:
    assert parse_duration(timedelta(seconds=5)) == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9201", ("127.0.0.1", 9201)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9201", ("::1", 9201)),
        ("[::]:9201", ("::", 9201)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_an_address(listen: str, address: tuple[str, int]) -> None:
    assert Settings.load(listen=listen).address == address


@pytest.mark.parametrize(
    "listen",
    [
        *("", "nonsense", "9201", ":9201", "host:", "host:port", "host:65536", "host:-1"),
        *("host:1.5", "host:٣", "*:9201", "::1:9201", "[::1:9201", "[host]:9201", "a b:9201"),
        *("http://127.0.0.1:9201", "a..b:9201", f"{'a' * 64}:9201", "host/path:9201"),
    ],
)
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(SettingsError, match=r"must be HOST:PORT, such as") as refusal:
        Settings.load(listen=listen)
    assert str(refusal.value).startswith(f"RECEIVER_LISTEN={listen}: ")


@given(st.text(max_size=12))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_address(text) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("64KiB", 2**16), ("16MiB", 2**24), ("16Mi", 2**24), ("1GB", 10**9)],
)
def test_a_size(text: str, size: int) -> None:
    assert Settings.load(max_body_size=text).max_body_size == size


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1_000_000), ("milliseconds", 1_000)])
def test_the_unit_of_the_ocr_metric(unit: str, factor: int) -> None:
    column = Settings.load(ocr_unit=unit).catalogue.tables[0].columns[1]
    assert column.read(1.0) + POSTGRES_EPOCH == factor


# --- wrong values ---------------------------------------------------------------------------------

HOST = "must be HOST:PORT, such as 127.0.0.1:9201, [::1]:9201 or, for all addresses, 0.0.0.0:9201"
DURATION = "must be a duration such as 250ms, 5s, 1h30m or 7d"
METRIC = "must be the name of a metric, such as app_status, without any {labels}"
LEVEL = "must be debug, info, warning or error"
WRONG = [
    ("listen", "nonsense", HOST),
    ("listen", "\u202e", HOST),
    ("data_dir", "a\x1b[31mb", "must be one line, without control characters"),
    ("data_dir", "'/data'", "must not have quotes around it"),
    ("credentials_file", " ", "must not be empty: leave it out instead"),
    ("status_metric", " ", METRIC),
    ("status_metric", 'app_status{job="x"}', METRIC),
    ("status_metric", "app\nstatus", "must be one line, without control characters"),
    ("ocr_metric", '"ocr_value"', "must not have quotes around it"),
    ("ocr_metric", "ocr\udcff", "must be text in UTF-8"),
    ("ocr_unit", "days", "must be seconds or milliseconds"),
    ("ocr_unit", "second", "must be seconds or milliseconds (did you mean seconds?)"),
    ("pair_timeout", "soon", DURATION),
    ("pair_timeout", "0s", "must be a duration above 0s, such as 2h"),
    ("pair_timeout", "1001y", "must be a duration of 1000y or less"),
    ("pair_timeout", "99999999999y", "must be a duration of 1000y or less"),
    ("retention", "never", f"{DURATION}, or off"),
    ("retention", "3m", "must be 1h or longer (m is for minutes), or off"),
    ("migrate_on_start", "perhaps", "must be true or false"),
    ("workers", "0", "must be a whole number from 1 to 1000, such as 1"),
    ("writers", "two", "must be a whole number from 1 to 1000, such as 3"),
    ("writers", "1.5", "must be a whole number from 1 to 1000, such as 3"),
    # A number of series, as in earlier versions.
    ("series_cache_size", "100000", "must be a size from 1MiB to 1EiB, such as 128MiB"),
    ("max_request_series", "0", "must be a whole number from 1 to 1000000000, such as 250000"),
    ("max_series_labels", "many", "must be a whole number from 1 to 1000000000, such as 256"),
    ("max_body_size", "12XB", "must be a size from 1B to 1EiB, such as 16MiB"),
    ("max_body_size", "0", "must be a size from 1B to 1EiB, such as 16MiB"),
    ("max_body_size", "2EiB", "must be a size from 1B to 1EiB, such as 16MiB"),
    ("log_level", "loud", LEVEL),
    ("log_level", "WARN", LEVEL),
    ("log_level", "inof", f"{LEVEL} (did you mean info?)"),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_wrong_value_is_one_line(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RECEIVER_{name.upper()}", value)
    with pytest.raises(SettingsError) as refusal:
        Settings.load()
    message = str(refusal.value)
    shown = value if value.isprintable() else repr(value)
    assert f"{message} ".startswith(f"RECEIVER_{name.upper()}={shown}".rstrip())
    assert message.endswith(f": {reason}")
    assert message.isprintable()


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize(
    "value", [object(), -1, "\udcff", "'x'", " ", "-", "9" * 5000, "nan", "x:x"]
)
def test_whatever_is_wrong_is_said_in_our_own_words(name: str, value: object) -> None:
    values: dict[str, Any] = {name: value}
    try:
        Settings.load(**values)
    except SettingsError as error:
        message = str(error)
        assert re.fullmatch(rf"RECEIVER_{name.upper()}(=.*)?: (must|needs) .*", message)
        assert message.isprintable()
        assert len(message) < 400


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.from_regex(
    r"[-+]?[0-9.e]{1,9}\s?([KMGTPEkmgtpe]i?[Bb]?|bit|ms|[smhdwy]|:[0-9]+)?", fullmatch=True
)


@given(st.sampled_from(list(Settings.model_fields)), ANY_TEXT)
def test_any_text_is_a_value_or_a_settings_error(name: str, text: str) -> None:
    values: dict[str, Any] = {name: text}
    with suppress(SettingsError):
        Settings.load(**values)


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(SettingsError, match=f"RECEIVER_LISTEN={'x' * 100}…: must"):
        Settings.load(listen="x" * 10_000)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("listen", "h:1\n", "h:1"),
        ("listen", "\ufeff h:1\t", "h:1"),
        ("log_level", "INFO\r", "info"),
        ("status_metric", " app_status\n", "app_status"),
        ("status_metric", "측정.값 1", "측정.값 1"),
        ("migrate_on_start", "no\r\n", False),
        ("pair_timeout", "5s ", timedelta(seconds=5)),
        ("retention", " OFF", None),
        ("writers", " 3\n", 3),
        ("max_body_size", "1KiB ", 1024),
        ("data_dir", "/data\r\n", Path("/data")),
    ],
)
@pytest.mark.parametrize("place", ["environment", "flag", "secret"])
def test_blanks_around_a_value_are_no_part_of_it(
    place: str,
    name: str,
    value: str,
    found: object,
    monkeypatch: pytest.MonkeyPatch,
    secrets_dir: Path,
) -> None:
    if place == "flag" and name == "migrate_on_start":
        return
    words = [f"--{name.replace('_', '-')}={value}"] if place == "flag" else []
    if place == "environment":
        monkeypatch.setenv(f"RECEIVER_{name.upper()}", value)
    if place == "secret":
        (secrets_dir / f"receiver_{name}").write_text(value, encoding="utf-8", newline="")
    assert getattr(load_flags(*words), name) == found


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_blanks_around_a_secret_are_no_part_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = SECRET if name == "database_url" else "hunter2"
    monkeypatch.setenv(f"RECEIVER_{name.upper()}", f" {value}\r\n")
    assert getattr(Settings.load(), name).get_secret_value() == value


def test_a_password_may_begin_and_end_with_a_quote() -> None:
    password = Settings.load(database_password="'x'").database_password
    assert password is not None
    assert password.get_secret_value() == "'x'"


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load(listen="x", writers=0)
    first, second = str(refusal.value).split("; ")
    assert first.startswith("RECEIVER_LISTEN=x: ")
    assert second.startswith("RECEIVER_WRITERS=0: ")


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_is_never_shown() -> None:
    settings = load_flags("--database-url", SECRET, "--database-password", "hunter2")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), str(settings.model_dump())):
        assert "hunter2" not in shown
    assert "hunter2" not in settings.model_dump_json()


def secret_settings() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if "Secret" in str(field)]


@pytest.mark.parametrize("name", secret_settings())
def test_a_wrong_secret_is_not_in_the_message(name: str) -> None:
    wrong: dict[str, Any] = {name: ["hunter2"]}
    with pytest.raises(SettingsError) as refusal:
        Settings.load(**wrong)
    assert str(refusal.value) == f"RECEIVER_{name.upper()}: must be text"
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_what_is_secret() -> None:
    assert set(secret_settings()) == SECRETS


def test_other_faults_do_not_show_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_DATABASE_URL", SECRET)
    with pytest.raises(SettingsError) as refusal:
        Settings.load(listen="nonsense")
    assert "hunter2" not in str(refusal.value)


# --- data directories -----------------------------------------------------------------------------


def test_the_data_directory_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/receiver")


def test_the_data_directory_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == Path("/home/somebody/.local/share/receiver")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/receiver")
    # A relative path is ignored (XDG Base Directory Specification).
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert default_data_dir() == Path("/home/somebody/.local/share/receiver")


def test_the_data_directory_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == Path("/var/lib/receiver")


@pytest.mark.parametrize("name", ["commit_timeout", "read_timeout", "maintenance_interval"])
def test_a_time_that_must_not_be_zero(name: str) -> None:
    values: dict[str, Any] = {name: "0s"}
    with pytest.raises(SettingsError, match=f"RECEIVER_{name.upper()}=0s: must be .* above 0s"):
        Settings.load(**values)


def test_a_value_of_two_lines_is_shown_in_one() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(listen="a\nb")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("abc", ["abc"]), ("abc\n\n def \n", ["abc", "def"]), ("a/+=~-._!", ["a/+=~-._!"])],
)
def test_tokens_are_one_a_line(secrets_dir: Path, text: str, tokens: list[str]) -> None:
    (secrets_dir / "receiver_bearer_token").write_text(text)
    settings = Settings.load()
    assert settings.bearer_tokens == tokens
    assert settings.requires_credentials


@pytest.mark.parametrize("text", ["hun ter2", "hunter2\nhun ter2", "hünter2", "hun\0"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(SettingsError, match="RECEIVER_BEARER_TOKEN: must be a token") as refusal:
        Settings.load(bearer_token=text)
    assert "hun" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["bearer_token", "credentials_file", "tls_cert_file", "tls_client_ca_file"]
)
def test_which_settings_make_requests_need_credentials(name: str) -> None:
    values: dict[str, Any] = {name: "x", "tls_cert_file": "x"}
    settings = Settings.load(**values)
    assert settings.requires_credentials is (name != "tls_cert_file")
    assert settings.own_url == "https://127.0.0.1:9201"


@pytest.mark.parametrize("name", ["tls_key_file", "tls_client_ca_file"])
def test_files_that_are_of_no_use_without_a_certificate(name: str) -> None:
    values: dict[str, Any] = {name: "file"}
    with pytest.raises(SettingsError, match=f"RECEIVER_{name.upper()}: needs RECEIVER_TLS_CERT"):
        Settings.load(**values)


@pytest.mark.parametrize(
    ("listen", "beyond"),
    [
        ("127.0.0.1:1", False),
        ("127.9.9.9:1", False),
        ("[::1]:1", False),
        ("localhost:1", False),
        ("0.0.0.0:1", True),
        ("[::]:1", True),
        ("192.168.0.9:1", True),
        ("receiver.example.com:1", True),
    ],
)
def test_what_listens_beyond_loopback(listen: str, beyond: bool) -> None:
    assert Settings.load(listen=listen).listens_beyond_loopback is beyond


def test_one_name_for_both_metrics_is_refused() -> None:
    with pytest.raises(SettingsError, match="STATUS_METRIC=ocr_value: must differ from"):
        Settings.load(status_metric="ocr_value")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_DATABASE_URL", "")
    assert Settings.load().database_url is None


# --- settings without effect ----------------------------------------------------------------------


def test_a_misspelt_name_is_known_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, secrets_dir: Path
) -> None:
    monkeypatch.setenv("RECEIVER_LISTEN", "h:1")
    monkeypatch.setenv("RECEIVER_DATABSE_URL", SECRET)
    monkeypatch.setenv("RECIEVER_WORKERS", "2")
    Path(".env").write_text("PUBLISH_RECEIVER=1\nRECEIVER_LISTN=h:2\nRECEIVER_QQQ=1\n")
    (secrets_dir / "receiver_bearer_tokn").write_text("hunter2")
    assert find_ignored() == [
        ("RECEIVER_DATABSE_URL is not a setting", "did you mean RECEIVER_DATABASE_URL?"),
        ("RECIEVER_WORKERS is not a setting", "did you mean RECEIVER_WORKERS?"),
        ("RECEIVER_LISTN (.env line 2) is not a setting", "did you mean RECEIVER_LISTEN?"),
        ("RECEIVER_QQQ (.env line 3) is not a setting", "`receiver serve --help` lists all"),
        (
            f"RECEIVER_BEARER_TOKN ({secrets_dir / 'receiver_bearer_tokn'}) is not a setting",
            "did you mean RECEIVER_BEARER_TOKEN?",
        ),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "RECEIVER_SERVICE_HOST",
        "RECEIVER_SERVICE_PORT_HTTP",
        "RECEIVER_PORT",
        "RECEIVER_PORT_9201_TCP_ADDR",
        "RECEIVER_METRICS_SERVICE_PORT",
        "receiver_listen",
        "LISTEN",
        "DATABASE_URL",
    ],
)
def test_what_is_not_misspelt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "x")
    assert find_ignored() == []
