"""Settings files in the forms that editors, shells and other systems write."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import receiver.config.settings
from receiver.config.files import LARGEST, read_env_file
from receiver.config.settings import Settings
from receiver.errors import SettingsError
from tests.conftest import MakeSettings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def alone(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing around the test changes settings; it has a directory and secrets of its own."""
    del make_settings
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    monkeypatch.setattr(receiver.config.settings, "SECRETS_DIR", secrets)
    monkeypatch.chdir(tmp_path)
    return secrets


def refusal() -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    message = str(refused.value)
    assert message.isprintable()
    assert SECRET not in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        b"RECEIVER_LISTEN=h:1",
        b"\xef\xbb\xbfRECEIVER_LISTEN=h:1\n",
        b"RECEIVER_LISTEN=h:1\r\n",
        b"\r\n# x\r\n\r\nRECEIVER_LISTEN=h:1\r\n",
        "RECEIVER_LISTEN=h:1\r\n".encode("utf-16"),
        "\ufeffRECEIVER_LISTEN=h:1\n".encode("utf-16-be"),
        "# 공장 3호기\nRECEIVER_LISTEN=h:1\n".encode("cp949"),
        "OTHER=공장\nRECEIVER_LISTEN=h:1\n".encode("cp949"),
        b"export RECEIVER_LISTEN=h:1\n",
        b"receiver_listen=h:1\n",
        b"RECEIVER_LISTEN = 'h:1'   # here\n",
        b'RECEIVER_LISTEN="h:1"\n',
        b"RECEIVER_LISTEN=h:1 # here\n",
        b"RECEIVER_LISTEN=h:2\nRECEIVER_LISTEN=h:1\n",
        b"RECEIVER_LISTEN='h:1\n'\n",
    ],
)
def test_an_env_file_is_read_however_it_was_saved(content: bytes) -> None:
    Path(".env").write_bytes(content)
    assert Settings.load().listen == "h:1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RECEIVER_LISTEN: h:1\n", ".env line 1: RECEIVER_LISTEN has no = after its name"),
        (b"\n\nRECEIVER_LISTEN\n", ".env line 3: RECEIVER_LISTEN has no = after its name"),
        (b"# x\nexport RECEIVER_BEARER_TOKEN hunter2", ".env line 2: RECEIVER_BEARER_TOKEN has no"),
        (b"RECEIVER_BEARER_TOKEN='hunter2\n", ".env line 1: RECEIVER_BEARER_TOKEN has no ="),
        (b"RECEIVER_BEARER_TOKEN=hunter2${x}\n", ".env line 1: RECEIVER_BEARER_TOKEN has a ${…}"),
        (b'A=1\r\nRECEIVER_DATA_DIR="${HOME}/x"', ".env line 2: RECEIVER_DATA_DIR has a ${…}"),
        (b"RECEIVER_LISTEN=nonsense", "RECEIVER_LISTEN=nonsense (.env line 1): must be HOST:PORT"),
        (
            b"\nRECEIVER_BEARER_TOKEN=hun ter",
            "RECEIVER_BEARER_TOKEN (.env line 2): must be a token",
        ),
        (b"RECEIVER_LISTEN=h\0:1\n", ".env line 1: has a NUL byte"),
        ("\nRECEIVER_LISTEN=h:1\n".encode("utf-16-le"), ".env line 2: has a NUL byte, as UTF-16"),
        (b"\xff\xfeR", ".env is malformed UTF-16; save it as UTF-8"),
        (
            "A=1\nRECEIVER_DATABASE_PASSWORD=공장hunter2".encode("cp949"),
            ".env line 2: RECEIVER_DATABASE_PASSWORD is not UTF-8 text; save the file as UTF-8",
        ),
        (b"#" * (LARGEST + 1), ".env is larger than 1 MiB"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_line(content: bytes, message: str) -> None:
    Path(".env").write_bytes(content)
    assert refusal().startswith(message)


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"RECEIVER_DATABASE_PASSWORD='a${b}'\n", "a${b}"),
        (b"RECEIVER_DATABASE_PASSWORD=a$b\n", "a$b"),
        (b"RECEIVER_DATABASE_PASSWORD=a#b\n", "a#b"),
        (b"RECEIVER_DATABASE_PASSWORD=a=b\n", "a=b"),
    ],
)
def test_nothing_is_put_into_a_value(
    content: bytes, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("b", "replaced")
    Path(".env").write_bytes(content)
    found = Settings.load().database_password
    assert found is not None
    assert found.get_secret_value() == password


def test_what_has_no_effect_is_known_with_its_line() -> None:
    Path(".env").write_text(
        "OTHER\n\nwhat is this\nRECEIVER_LISTEN=h:1\nAPP_MODE: x\nRECEIVER_LISTEN=h:2\n"
    )
    advice = "it is ignored; a comment begins with #"
    assert read_env_file(Path(".env")).ignored == [
        (".env line 3 is not NAME=VALUE", advice),
        (".env line 5 is not NAME=VALUE", advice),
        (
            "RECEIVER_LISTEN is set in .env line 4 and in .env line 6",
            "the last one wins; remove the other",
        ),
    ]


@given(st.binary(max_size=60) | st.text().map(lambda text: f"RECEIVER_LISTEN{text}".encode()))
def test_whatever_stands_in_an_env_file_is_read_or_refused(content: bytes) -> None:
    Path(".env").write_bytes(content)
    with suppress(SettingsError):
        Settings.load()


def test_a_directory_in_place_of_an_env_file_is_refused() -> None:
    Path(".env").mkdir()
    assert refusal() == "cannot read .env: Is a directory"


def test_a_virtual_environment_may_be_called_so() -> None:
    Path(".env").mkdir()
    Path(".env/pyvenv.cfg").touch()
    Settings.load()


def test_a_link_to_nothing_is_no_env_file() -> None:
    Path(".env").symlink_to("nowhere")
    Settings.load()


def test_an_env_file_that_cannot_be_read_is_refused() -> None:
    Path(".env").symlink_to(".env")
    assert refusal() == "cannot read .env: Too many levels of symbolic links"


@pytest.mark.parametrize(
    "content",
    [
        b"hunter2",
        b"hunter2\r\n",
        b" hunter2 \n",
        b"\xef\xbb\xbfhunter2",
        "hunter2\r\n".encode("utf-16"),
    ],
)
def test_a_secret_is_read_however_it_was_saved(alone: Path, content: bytes) -> None:
    (alone / "receiver_database_password").write_bytes(content)
    password = Settings.load().database_password
    assert password is not None
    assert password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "RECEIVER_BEARER_TOKEN ({file}): must not be empty"),
        (b"\r\n", "RECEIVER_BEARER_TOKEN ({file}): must not be empty"),
        ("공장hunter2".encode("cp949"), "{file} is not UTF-8 text; save the file as UTF-8"),
        ("hunter2".encode("utf-16-le"), "{file} line 1: has a NUL byte"),
        (b'"hunter2"', "RECEIVER_BEARER_TOKEN ({file}): must not have quotes around it"),
    ],
)
def test_what_is_no_secret_is_refused_with_its_file(
    alone: Path, content: bytes, message: str
) -> None:
    file = alone / "receiver_bearer_token"
    file.write_bytes(content)
    assert refusal().startswith(message.format(file=file))


def test_a_secret_of_two_lines_is_refused_where_one_is_needed(alone: Path) -> None:
    file = alone / "receiver_database_password"
    file.write_text("hunter2\n# the old one\n")
    assert refusal() == (
        f"RECEIVER_DATABASE_PASSWORD ({file}): must be one line, without control characters"
    )


def test_a_directory_in_place_of_a_secret_is_refused_if_it_is_needed(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = alone / "receiver_database_password"
    file.mkdir()
    assert refusal() == f"cannot read {file}: Is a directory"
    monkeypatch.setenv("RECEIVER_DATABASE_PASSWORD", SECRET)
    Settings.load()


def test_a_secret_that_leads_nowhere_is_refused(alone: Path) -> None:
    file = alone / "receiver_listen"
    file.symlink_to("..data/nowhere")
    assert refusal() == f"cannot read {file}: No such file or directory"


def test_what_else_lies_beside_secrets_does_no_harm(alone: Path) -> None:
    (alone / "kubernetes.io" / "serviceaccount").mkdir(parents=True)
    (alone / "other").write_bytes(b"\xff\0")
    Settings.load()
