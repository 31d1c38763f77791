"""HTTPS with files that can be replaced without a restart, and client certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from receiver.config.settings import Settings
from receiver.errors import SettingsError
from receiver.security.contexts import (
    LatestContext,
    ServerContext,
    client_context,
    server_context,
)
from receiver.security.files import Reloaded, read_text

CERT: Final = "RECEIVER_TLS_CERT_FILE"
KEY: Final = "RECEIVER_TLS_KEY_FILE"
CLIENT_CA: Final = "RECEIVER_TLS_CLIENT_CA_FILE"
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class ServerTLS:
    """The TLS state of a server, kept up to date while it runs.

    Args:
        settings: The receiver's settings, with a certificate.

    Raises:
        SettingsError: a file cannot be used; the message states which one and why.
    """

    def __init__(self, settings: Settings) -> None:
        files = (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
        self._latest = Reloaded(
            [file for file in files if file is not None], lambda: build_context(settings)
        )
        self.context = LatestContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.latest = lambda: self._latest.value

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Keep the files up to date while the application runs."""
        async with self._latest.kept_up():
            yield

    def trusts_still(self, connection: ssl.SSLObject) -> bool:
        """Return whether all authorities trusted when a connection was made are still trusted."""
        context = connection.context
        return (
            isinstance(context, ServerContext)
            and context.authorities <= self._latest.value.authorities
        )


def build_context(settings: Settings) -> ServerContext:
    """Read the files that the settings name, and check them.

    Raises:
        SettingsError: a file cannot be used.
    """
    assert settings.tls_cert_file is not None  # noqa: S101  as ServerTLS demands
    context = server_context()
    load_certificate(context, settings.tls_cert_file, settings.tls_key_file)
    if settings.tls_client_ca_file is not None:
        load_authorities(context, settings.tls_client_ca_file)
    return context


def load_certificate(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Load a certificate with its chain and its key.

    Raises:
        SettingsError: they cannot be read, do not match, or are not valid now.
    """
    place = f"{CERT}={cert}"
    certificate = first_certificate(read_text(CERT, cert), place)
    key_place = place
    if key is not None:
        read_text(KEY, key)
        key_place = f"{KEY}={key}"
    try:
        context.load_cert_chain(cert, key, password=lambda: refuse_encrypted(key_place))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{key_place}: is not the key of the certificate") from None
        raise SettingsError(f"{key_place}: has no private key in PEM form") from None
    except OSError as error:
        raise SettingsError(f"{place}: cannot be read: {error.strerror}") from error
    if fault := find_fault(context, certificate):
        raise SettingsError(f"{place}: {fault}")


def load_authorities(context: ServerContext, file: Path) -> None:
    """Accept client certificates signed by an authority in the file.

    `Authentication` decides whether a certificate is required: health checks have none.

    Raises:
        SettingsError: the file cannot be read, or has no certificate.
    """
    place = f"{CLIENT_CA}={file}"
    text = read_text(CLIENT_CA, file)
    first_certificate(text, place)
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError:
        raise SettingsError(f"{place}: has a malformed certificate") from None
    found = (part.partition(END)[0] for part in text.split(BEGIN)[1:])
    context.authorities = frozenset("".join(pem.split()) for pem in found)
    context.verify_mode = ssl.CERT_OPTIONAL


def refuse_encrypted(place: str) -> str:
    """Keep OpenSSL from asking a terminal for the key's passphrase.

    Raises:
        SettingsError: always.
    """
    raise SettingsError(f"{place}: the private key is encrypted; `openssl pkey` decrypts it")


def first_certificate(text: str, place: str) -> str:
    """Return the server's own certificate; its chain follows it in the file.

    Raises:
        SettingsError: the file has no certificate.
    """
    _, begin, rest = text.partition(BEGIN)
    body, end, _ = rest.partition(END)
    if not end:
        raise SettingsError(f"{place}: has no certificate in PEM form")
    return f"{begin}{body}{end}\n"


def trusting(certificate: str) -> ssl.SSLContext:
    """Return a client context that trusts exactly this certificate, for any host.

    Raises:
        ssl.SSLError: the certificate is malformed.
    """
    context = client_context(certificate)
    context.check_hostname = False
    return context


def find_fault(server: ssl.SSLContext, certificate: str) -> str:
    """Return why clients would refuse the certificate, such as its age; "" if they accept it."""
    try:
        shake_hands(server, trusting(certificate))
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return f"cannot be used: {error.reason or error}"
    return ""


def read_expiry(settings: Settings) -> float:
    """Return when the server's certificate expires, in seconds since the Unix epoch.

    Raises:
        SettingsError: a file cannot be used, for instance an expired certificate.
    """
    assert settings.tls_cert_file is not None  # noqa: S101  as ServerTLS demands
    server = build_context(settings)
    client = trusting(first_certificate(read_text(CERT, settings.tls_cert_file), CERT))
    certificate = shake_hands(server, client).getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Perform a handshake in memory; return the client side, which has the server certificate.

    Raises:
        ssl.SSLError: the handshake fails.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [one, other]
    while waiting:
        end = waiting.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(end)
    return one


def own_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return a context that trusts the receiver with the same settings; None: it serves HTTP.

    Raises:
        SettingsError: the certificate cannot be read.
    """
    if settings.tls_cert_file is None:
        return None
    text = read_text(CERT, settings.tls_cert_file)
    return trusting(first_certificate(text, f"{CERT}={settings.tls_cert_file}"))
