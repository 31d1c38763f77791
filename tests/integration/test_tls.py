"""HTTPS: server and client certificates, and changes of their files."""

from __future__ import annotations

import asyncio
import socket
import ssl
from argparse import ArgumentParser
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization import PrivateFormat as Format

from receiver.clients import health
from receiver.clients.capture import LINE, CapturedRequest
from receiver.commands import replay
from receiver.config.settings import Settings
from receiver.errors import SettingsError
from receiver.http.paths import WRITE as WRITE_PATH
from receiver.process.app import CONNECTIONS, METRICS
from receiver.security.contexts import client_context
from receiver.security.tls import ServerTLS
from tests.certificates import Certificate, issue
from tests.conftest import MakeSettings
from tests.messages import NOW, compressed, series
from tests.metrics import exposed
from tests.receivers import Running, receiving
from tests.waiting import until

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"


class Client:
    """A client with its own TLS settings, which opens a connection per request."""

    def __init__(self, receiver: Running, trusted: Path, certificate: Path | None = None) -> None:
        self._url = receiver.url("/metrics")
        self.context = client_context(trusted.read_text())
        if certificate is not None:
            self.context.load_cert_chain(certificate)

    async def get(self, url: str | None = None) -> int:
        async with (
            aiohttp.ClientSession(headers={"Connection": "close"}) as session,
            session.get(url or self._url, ssl=self.context) as response,
        ):
            return response.status

    async def is_refused(self) -> bool:
        try:
            await self.get()
        except aiohttp.ClientError:
            return True
        return False


@asynccontextmanager
async def serving(make_settings: MakeSettings, **values: object) -> AsyncIterator[Running]:
    settings = make_settings(database_url=NO_DATABASE, **values)
    async with receiving(settings, wait=False) as receiver:
        yield receiver


def directory(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


@pytest.fixture
def server() -> Certificate:
    return issue("server")


# --- serving --------------------------------------------------------------------------------------


async def test_it_serves_https_and_nothing_else(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        client = Client(receiver, tmp_path / "cert.pem")
        assert await client.get() == 200
        with pytest.raises(aiohttp.ClientError):
            await client.get(receiver.url().replace("https", "http"))


async def test_certificate_and_key_may_be_one_file(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    server.write(tmp_path)
    async with serving(make_settings, tls_cert_file=tmp_path / "both.pem") as receiver:
        assert await Client(receiver, tmp_path / "cert.pem").get() == 200


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        (ssl.TLSVersion.TLSv1_1, True),
        (ssl.TLSVersion.TLSv1_2, False),
        (ssl.TLSVersion.TLSv1_3, False),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_versions_of_tls(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    version: ssl.TLSVersion,
    refused: bool,
) -> None:
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        client = Client(receiver, tmp_path / "cert.pem")
        client.context.set_ciphers("ALL:@SECLEVEL=0")
        client.context.minimum_version = client.context.maximum_version = version
        assert await client.is_refused() is refused


# --- handshakes that do not end -------------------------------------------------------------------


def closed(receiver: Running, cause: str) -> float:
    """Return how many connections the receiver closed for this cause."""
    counted = exposed(receiver.app[METRICS].expose().decode())
    return counted[f'receiver_connections_closed_total{{cause="{cause}"}}']


async def test_a_handshake_that_does_not_end_is_given_up(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.process.server.HANDSHAKE", 0.2)
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        reader, writer = await asyncio.open_connection(*receiver.address)
        await until(lambda: len(receiver.app[CONNECTIONS]) == 1)
        assert await reader.read() == b""
        await until(lambda: len(receiver.app[CONNECTIONS]) == 0)
        assert closed(receiver, "handshake") == 1
        writer.close()
        assert await Client(receiver, tmp_path / "cert.pem").get() == 200


async def test_handshakes_that_do_not_end_make_room_for_others(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    values = server.write(tmp_path)
    async with serving(make_settings, max_connections=5, **values) as receiver:
        silent = [await asyncio.open_connection(*receiver.address) for _ in range(10)]
        assert await Client(receiver, tmp_path / "cert.pem").get() == 200
        assert len(receiver.app[CONNECTIONS]) <= 5
        assert closed(receiver, "room") >= 5
        for reader, _ in silent[:5]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        for _, writer in silent:
            writer.transport.abort()


# --- changes --------------------------------------------------------------------------------------


async def test_a_new_certificate_is_served_without_a_restart(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        old = Client(receiver, tmp_path / "cert.pem")
        assert await old.get() == 200
        issue("server").write(tmp_path)
        await until(old.is_refused)
        assert await Client(receiver, tmp_path / "cert.pem").get() == 200


async def test_a_connection_outlives_the_change(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        old = Client(receiver, tmp_path / "cert.pem")
        connector = aiohttp.TCPConnector(ssl=old.context, limit=1, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(2):
                async with session.get(receiver.url("/metrics")) as response:
                    assert response.status == 200
                issue("server").write(tmp_path)
                await until(old.is_refused)


@pytest.mark.parametrize("fault", ["half of it", "no certificate", "expired"])
async def test_a_broken_change_changes_nothing(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    async with serving(make_settings, **server.write(tmp_path)) as receiver:
        client = Client(receiver, tmp_path / "cert.pem")
        match fault:
            case "half of it":
                key = (tmp_path / "key.pem").read_bytes()
                issue("server").write(tmp_path)
                (tmp_path / "key.pem").write_bytes(key)
            case "no certificate":
                (tmp_path / "cert.pem").write_text("nonsense")
            case "expired":
                issue("server", expires_in=timedelta(seconds=-1)).write(tmp_path)
        await until(lambda: "stay in use" in caplog.text)
        assert await client.get() == 200
        # A later valid change takes effect.
        issue("server").write(tmp_path)
        await until(client.is_refused)


# --- client certificates --------------------------------------------------------------------------


class Authorities:
    """Two authorities, each with a client certificate that it has signed."""

    def __init__(self, path: Path) -> None:
        self.ours, self.others = (directory(path, name) for name in ("ours", "others"))
        self.file = path / "ca.pem"
        for place in (self.ours, self.others):
            authority = issue(f"authority of {place.name}", authority=True)
            (place / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
            issue("sender", authority).write(place)
        self.trust(self.ours)

    def trust(self, *places: Path) -> None:
        self.file.write_bytes(b"".join((place / "ca.pem").read_bytes() for place in places))


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    return Authorities(tmp_path)


async def test_a_client_certificate_is_wanted(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, authorities: Authorities
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files) as receiver:
        trusted = tmp_path / "cert.pem"
        assert await Client(receiver, trusted, authorities.ours / "both.pem").get() == 200
        assert await Client(receiver, trusted, authorities.others / "both.pem").is_refused()
        without = Client(receiver, trusted)
        assert await without.get() == 401
        assert await without.get(receiver.url("/-/healthy")) == 200


async def test_a_certificate_does_not_stand_for_a_token(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, authorities: Authorities
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, bearer_token="one", **files) as receiver:
        for certificate, token, expected in (
            (None, "one", 401),
            (authorities.ours / "both.pem", "two", 401),
            (authorities.ours / "both.pem", "one", 200),
        ):
            client = Client(receiver, tmp_path / "cert.pem", certificate)
            async with receiver.session.get(
                receiver.url("/metrics"),
                ssl=client.context,
                headers={"Authorization": f"Bearer {token}", "Connection": "close"},
            ) as response:
                assert response.status == expected


async def test_authorities_are_replaced_without_a_restart(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, authorities: Authorities
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files) as receiver:
        ours, others = (
            Client(receiver, tmp_path / "cert.pem", place / "both.pem")
            for place in (authorities.ours, authorities.others)
        )
        assert await ours.get() == 200
        authorities.trust(authorities.others)
        await until(ours.is_refused)
        assert await others.get() == 200


class Raw:
    """Connections that keep their TLS session, as long-lived clients do."""

    def __init__(
        self, receiver: Running, trusted: Path, certificate: Path, version: ssl.TLSVersion
    ) -> None:
        self._open = ExitStack()
        self._address = receiver.address
        self._context = client_context(trusted.read_text())
        self._context.load_cert_chain(certificate)
        self._context.minimum_version = self._context.maximum_version = version

    def ask(self, session: ssl.SSLSession | None = None) -> tuple[int, ssl.SSLSession | None]:
        """Send a request; return its status, 0 if refused, and the TLS session for later."""
        plain = socket.create_connection(self._address, timeout=10)
        self._open.callback(plain.close)
        try:
            connection = self._context.wrap_socket(
                plain, server_hostname="localhost", session=session
            )
            # A server discards the session of a connection that is not closed cleanly.
            self._open.callback(connection.close)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with connection.makefile("rb") as answer:
                return int(answer.readline().split()[1]), connection.session
        except (OSError, IndexError):
            return 0, None

    def close(self) -> None:
        self._open.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_does_not_outlive_its_authority(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    authorities: Authorities,
    version: ssl.TLSVersion,
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files) as receiver:
        trusted = tmp_path / "cert.pem"
        ours = authorities.ours / "both.pem"
        with closing(Raw(receiver, trusted, ours, version)) as raw:
            status, session = await asyncio.to_thread(raw.ask)
            assert status == 200
            authorities.trust(authorities.others)
            await until(Client(receiver, trusted, ours).is_refused)
            assert (await asyncio.to_thread(raw.ask, session))[0] == 0


async def test_a_connection_does_not_outlive_its_authority(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, authorities: Authorities
) -> None:
    """But one whose authority stays goes on."""
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files) as receiver:
        trusted = tmp_path / "cert.pem"
        ours, others = (
            Client(receiver, trusted, place / "both.pem")
            for place in (authorities.ours, authorities.others)
        )
        connector = aiohttp.TCPConnector(ssl=ours.context, limit=1, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask() -> tuple[int, bool]:
                async with session.get(receiver.url("/metrics")) as response:
                    return response.status, response.headers.get("Connection") == "close"

            assert await ask() == (200, False)
            authorities.trust(authorities.ours, authorities.others)
            await until(lambda: answers(others))
            assert await ask() == (200, False)
            authorities.trust(authorities.others)
            await until(ours.is_refused)
            # Prometheus would drop samples that are answered with 401.
            assert await ask() == (503, True)
            with pytest.raises(aiohttp.ClientError):
                await ask()


async def answers(client: Client) -> bool:
    return not await client.is_refused()


async def test_a_client_certificate_expires_within_a_connection(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate
) -> None:
    authority = issue("authority", authority=True)
    pem = authority.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(pem)
    place = directory(tmp_path, "client")
    issue("sender", authority, expires_in=timedelta(seconds=3)).write(place)
    files = server.write(tmp_path) | {"tls_client_ca_file": tmp_path / "ca.pem"}
    async with serving(make_settings, **files) as receiver:
        client = Client(receiver, tmp_path / "cert.pem", place / "both.pem")
        connector = aiohttp.TCPConnector(ssl=client.context, limit=1, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector) as session:
            found: set[int] = set()

            async def refused() -> bool:
                async with session.get(receiver.url("/metrics")) as response:
                    found.add(response.status)
                return response.status == 503

            await until(refused)
            assert found <= {200, 503}


@pytest.mark.parametrize("kind", ["bare", "intermediate"])
async def test_certificates_that_strict_checks_refuse(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, kind: str
) -> None:
    """Python 3.13 refuses those without key identifiers, earlier ones an authority alone."""
    root = issue("root", authority=True)
    authority = issue("intermediate", root, authority=True) if kind == "intermediate" else root
    pem = authority.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(pem)
    place = directory(tmp_path, "client")
    issue("sender", authority).write(place)
    files = server.write(tmp_path) | {"tls_client_ca_file": tmp_path / "ca.pem"}
    async with serving(make_settings, **files) as receiver:
        client = Client(receiver, tmp_path / "cert.pem", place / "both.pem")
        assert await client.get() == 200


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("authority", "the client's certificate is refused: unable to get local issuer"),
        ("http", "plain HTTP was sent where HTTPS is served"),
        ("client", "the client ended it: tlsv1 alert unknown ca"),
    ],
)
async def test_a_failed_handshake_is_logged(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    authorities: Authorities,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    reason: str,
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files) as receiver:
        trusted = tmp_path / "cert.pem"
        match kind:
            case "authority":
                client = Client(receiver, trusted, authorities.others / "both.pem")
                assert await client.is_refused()
            case "http":
                with pytest.raises(aiohttp.ClientError):
                    await Client(receiver, trusted).get(receiver.url().replace("https", "http"))
            case "client":
                version = ssl.TLSVersion.TLSv1_2
                ours = authorities.ours / "both.pem"
                with closing(Raw(receiver, authorities.file, ours, version)) as raw:
                    assert (await asyncio.to_thread(raw.ask))[0] == 0
        await until(lambda: reason in caplog.text)
    record = next(record for record in caplog.records if reason in record.message)
    assert record.levelname == "WARNING"
    # The key by which it is logged once, however often the client tries.
    assert vars(record)["fault"].startswith("TLS ")


# --- unusable files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("expired", "certificate has expired"),
        ("missing", "cannot be read: No such file"),
        ("directory", "cannot be read: Is a directory"),
        ("nonsense", "has no certificate in PEM form"),
        ("mismatch", "is not the key of the certificate"),
        ("keyless", "has no private key in PEM form"),
        ("encrypted", "the private key is encrypted"),
        ("authority", "has no certificate in PEM form"),
    ],
)
def test_a_fault_is_one_line(
    make_settings: MakeSettings, tmp_path: Path, server: Certificate, name: str, fault: str
) -> None:
    files = server.write(tmp_path)
    match name:
        case "expired":
            issue("server", expires_in=timedelta(seconds=-1)).write(tmp_path)
        case "missing":
            files["tls_cert_file"] = tmp_path / "none.pem"
        case "directory":
            files["tls_key_file"] = tmp_path
        case "nonsense":
            files["tls_cert_file"].write_text("hunter2")
        case "mismatch":
            files["tls_key_file"] = issue("x").write(directory(tmp_path, "x"))["tls_key_file"]
        case "keyless":
            del files["tls_key_file"]
        case "encrypted":
            encryption = BestAvailableEncryption(b"hunter2")
            pem = server.key.private_bytes(Encoding.PEM, Format.PKCS8, encryption)
            files["tls_key_file"].write_bytes(pem)
        case "authority":
            files["tls_client_ca_file"] = files["tls_key_file"]
    with pytest.raises(SettingsError, match=rf"RECEIVER_TLS_\w+_FILE=/.*: {fault}") as refusal:
        ServerTLS(make_settings(**files))
    assert "\n" not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


# --- the receiver's own commands ------------------------------------------------------------------


def settings_of(receiver: Running, make_settings: MakeSettings, **values: object) -> Settings:
    """Return the receiver's settings, as its commands would read them."""
    host, port = receiver.address
    return make_settings(listen=f"{host}:{port}", **values)


@pytest.mark.parametrize("wanted", [{}, {"bearer_token": "one\ntwo"}])
async def test_health_and_replay_reach_it(
    make_settings: MakeSettings,
    tmp_path: Path,
    server: Certificate,
    authorities: Authorities,
    wanted: dict[str, str],
) -> None:
    files = server.write(tmp_path) | {"tls_client_ca_file": authorities.file}
    async with serving(make_settings, **files, **wanted) as receiver:
        settings = settings_of(receiver, make_settings, **files, **wanted)
        status, _ = await health.ask_ready(settings)
        assert status == 503  # there is no database
        capture = captured(tmp_path / "capture.jsonl")
        both = str(authorities.ours / "both.pem")
        assert await replaying(settings, capture, "--client-cert-file", both) == 0
        assert await replaying(settings, capture) == 1


async def test_a_token_of_the_settings_is_for_no_other_receiver(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    capture = captured(tmp_path / "capture.jsonl")
    (tmp_path / "token").write_text("one\n")
    async with serving(make_settings, bearer_token="one") as receiver:
        settings = settings_of(receiver, make_settings, bearer_token="one")
        elsewhere = ("--to", receiver.url())
        assert await replaying(settings, capture) == 0
        assert await replaying(settings, capture, *elsewhere) == 1
        token = ("--bearer-token-file", str(tmp_path / "token"))
        assert await replaying(settings, capture, *elsewhere, *token) == 0


def captured(file: Path) -> str:
    """Write a file with a request that stores nothing; return its name."""
    body = compressed(series({"__name__": "up"}, (1.0, NOW)))
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    request = CapturedRequest(datetime.now(UTC), WRITE_PATH, headers, body)
    file.write_bytes(LINE.dump_json(request) + b"\n")
    return str(file)


async def replaying(settings: Settings, *words: str) -> int:
    parser = ArgumentParser()
    replay.add_arguments(parser)
    return await replay.run(settings, parser.parse_args([*words, "--retry-for", "1s"]))
