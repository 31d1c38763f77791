"""Read-only credentials cannot write, and write-only credentials cannot read."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest
from aiohttp.test_utils import make_mocked_request

from receiver.errors import ForbiddenError, SettingsError
from receiver.security.credentials import May, parse_text, read_credentials
from receiver.security.insertion import insert
from receiver.security.permissions import require
from tests.conftest import MakeSettings

HASH = bcrypt.hashpw(b"hunter2", b"$2b$04$T2W5iiVo4mfy3pkDQOR02u").decode()
DIGEST = sha256(b"hunter2").hexdigest()
FILE = f"basic_auth_users:\n  grafana: {HASH}\nbearer_tokens:\n- {DIGEST}\n"


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/api/v1/write", "write"),
        ("POST", "/api/v1/read", "read"),
        ("GET", "/", "read"),
        ("HEAD", "/logs", "read"),
        ("POST", "/codes", "write"),
        ("PUT", "/logs", "write"),
        ("GET", "/metrics", None),
    ],
)
def test_what_a_request_needs(method: str, path: str, needed: May | None) -> None:
    request = make_mocked_request(method, path)
    require(request, None)
    for may in ("read", "write"):
        if needed in {None, may}:
            require(request, may)
        else:
            with pytest.raises(ForbiddenError, match=f"may only {may}"):
                require(request, may)


def test_may_is_read(make_settings: MakeSettings) -> None:
    file = Path("credentials.yml")
    file.write_text(f"{FILE}may:\n  grafana: read\n  {DIGEST.upper()}: write\n")
    found = read_credentials(make_settings(credentials_file=file))
    assert found.may == {"grafana": "read", DIGEST: "write"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("may: {hunter2: read}", "entry 1 is neither a user of basic_auth_users nor a digest"),
        ("may: {grafana: all}", "may grafana: must be read or write"),
        ("may: [grafana]", "may: must be a mapping"),
        ("may: {grafana: read}\nmay: {grafana: write}", "the same name"),
    ],
)
def test_a_fault_is_named_and_no_value_shown(text: str, fault: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_text(f"{FILE}{text}\n", "file")
    assert fault in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_an_entry_is_added_with_what_it_may() -> None:
    text = insert(FILE, {"reader": HASH}, "file", "read")
    assert text == (
        f"basic_auth_users:\n  grafana: {HASH}\n  reader: {HASH}\nbearer_tokens:\n- {DIGEST}\n"
        "may:\n  reader: read\n"
    )
    other = sha256(b"other").hexdigest()
    text = insert(text, [other], "file", "write")
    assert text.endswith(f"- {DIGEST}\n- {other}\nmay:\n  reader: read\n  {other}: write\n")
