"""The message type and encoding that the headers of a request declare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from receiver.errors import UnsupportedMediaTypeError
from receiver.protocol.negotiation import Message, negotiate

TYPE = "application/x-protobuf"
V1 = f"{TYPE};proto=prometheus.WriteRequest"

TABLE: list[tuple[str | None, str | None, Message | None]] = [
    # Content-Type, Content-Encoding, the message or None for 415
    (TYPE, "snappy", Message.V1),
    (V1, "snappy", Message.V1),
    # A missing header
    (None, None, Message.V1),
    (None, "snappy", Message.V1),
    (TYPE, None, Message.V1),
    (V1, None, Message.V1),
    # Case: media types, parameter names and encodings have none, a parameter's value may have
    ("Application/X-Protobuf", "snappy", Message.V1),
    (f"{TYPE};PROTO=prometheus.WriteRequest", "snappy", Message.V1),
    (TYPE, "Snappy", Message.V1),
    (TYPE, "SNAPPY", Message.V1),
    (f"{TYPE};proto=prometheus.writerequest", "snappy", None),
    (f"{TYPE};proto=PROMETHEUS.WRITEREQUEST", "snappy", None),
    # Blanks
    (f"{TYPE}; proto=prometheus.WriteRequest", "snappy", Message.V1),
    (f"{TYPE} ; proto=prometheus.WriteRequest", "snappy", Message.V1),
    (f"  {TYPE}\t;\tproto=prometheus.WriteRequest  ", "snappy", Message.V1),
    (TYPE, " snappy\t", Message.V1),
    # Quotes
    (f'{TYPE};proto="prometheus.WriteRequest"', "snappy", Message.V1),
    (f'{TYPE}; proto="prometheus.WriteRequest" ', "snappy", Message.V1),
    (f'{TYPE};proto="prometheus.Write"', "snappy", None),
    (f"{TYPE};proto='prometheus.WriteRequest'", "snappy", None),
    (f'{TYPE};note="a;proto=b";proto=prometheus.WriteRequest', "snappy", Message.V1),
    (f'{TYPE};note="proto=prometheus.WriteRequest";proto=b', "snappy", None),
    # Other parameters, in any order
    (f"{TYPE};charset=utf-8", "snappy", Message.V1),
    (f"{V1};charset=utf-8", "snappy", Message.V1),
    (f"{TYPE};charset=utf-8;proto=prometheus.WriteRequest", "snappy", Message.V1),
    (f"{TYPE};charset=utf-8;proto=prometheus.Other;version=1", "snappy", None),
    (f"{TYPE};", "snappy", Message.V1),
    (f"{TYPE};;{V1.partition(';')[2]};", "snappy", Message.V1),
    # Messages the receiver does not know
    (f"{TYPE};proto=prometheus.ReadRequest", "snappy", None),
    (f"{TYPE};proto=io.prometheus.write.v3.Request", "snappy", None),
    (f"{TYPE};proto=WriteRequest", "snappy", None),
    (f"{TYPE};proto=", "snappy", None),
    (f'{TYPE};proto=""', "snappy", None),
    (f"{TYPE};proto", "snappy", None),
    (f"{TYPE};proto=prometheus.WriteRequest2", "snappy", None),
    (f"{TYPE};proto=prometheus.WriteRequest, {TYPE}", "snappy", None),
    # Other media types
    ("", "snappy", None),
    (";", "snappy", None),
    ("application/json", "snappy", None),
    ("text/plain", "snappy", None),
    ("application/protobuf", "snappy", None),
    ("application/x-protobuf2", "snappy", None),
    ("x-protobuf", "snappy", None),
    ("application/*", "snappy", None),
    ("*/*", "snappy", None),
    ("application/json;proto=prometheus.WriteRequest", "snappy", None),
    (f"{TYPE}, {TYPE}", "snappy", None),
    # Other encodings
    (TYPE, "", None),
    (TYPE, "identity", None),
    (TYPE, "gzip", None),
    (TYPE, "zstd", None),
    (TYPE, "x-snappy-framed", None),
    (TYPE, "snappy, snappy", None),
    (TYPE, "gzip, snappy", None),
    (TYPE, "snappy;q=1", None),
    (None, "zstd", None),
    ("application/json", "gzip", None),
]


def headers(content_type: str | None, encoding: str | None) -> CIMultiDict[str]:
    found: CIMultiDict[str] = CIMultiDict()
    if content_type is not None:
        found["content-type"] = content_type
    if encoding is not None:
        found["CONTENT-ENCODING"] = encoding
    return found


@pytest.mark.parametrize(("content_type", "encoding", "message"), TABLE)
def test_the_table(content_type: str | None, encoding: str | None, message: Message | None) -> None:
    sent = headers(content_type, encoding)
    if message is not None:
        assert negotiate(sent) is message
        return
    with pytest.raises(UnsupportedMediaTypeError) as refusal:
        negotiate(sent)
    assert refusal.value.status == 415


def test_a_refusal_says_what_came_and_what_to_send() -> None:
    with pytest.raises(UnsupportedMediaTypeError) as refusal:
        negotiate(headers("application/json", "snappy"))
    assert "'application/json'" in str(refusal.value)
    assert V1 in str(refusal.value)
    with pytest.raises(UnsupportedMediaTypeError) as refusal:
        negotiate(headers(TYPE, "zstd"))
    assert "'zstd'" in str(refusal.value)
    assert "send snappy" in str(refusal.value)


@pytest.mark.parametrize("second", ["gzip", "snappy"])
def test_encodings_in_several_headers_are_refused_as_in_one(second: str) -> None:
    sent = headers(TYPE, "snappy")
    sent.add("Content-Encoding", second)
    with pytest.raises(UnsupportedMediaTypeError, match=f"'snappy, {second}' is not supported"):
        negotiate(sent)


def test_other_headers_do_not_matter() -> None:
    sent = headers(V1, "snappy")
    sent["X-Prometheus-Remote-Write-Version"] = "9.9"
    sent["User-Agent"] = "anything"
    assert negotiate(sent) is Message.V1


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_a_message_or_refused(parameters: str, encoding: str) -> None:
    for sent in (headers(f"{TYPE};{parameters}", "snappy"), headers(parameters, encoding)):
        try:
            assert negotiate(sent) in Message
        except UnsupportedMediaTypeError:
            continue


@pytest.mark.parametrize(
    "parameters",
    ["proto*=a; proto*0=b", "proto*" + "9" * 5000 + "=x", " ;" * 4000 + "=", ';a="' + "\\a" * 4000],
    ids=["twice", "long", "blank", "unclosed"],
)
def test_crafted_parameters_are_refused_at_once(parameters: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        negotiate(headers(f"{TYPE};{parameters};proto", None))


@pytest.mark.parametrize("name", [message.value for message in Message])
def test_every_message_is_known_by_its_name(name: str) -> None:
    assert negotiate(headers(f"{TYPE};proto={name}", None)).value == name
