"""The name of the server in the first message of TLS, as real clients send it and as hostile ones do."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.services.egress.checks.client_hello import (
    MAX_HELLO,
    MIN_SERVER_HELLO,
    ClientHello,
    NotTLS,
    is_retry_request,
    read_client_hello,
    skip_change_cipher_spec,
)


def real_hello(host: str | None = "example.org", version: ssl.TLSVersion | None = None) -> bytes:
    """Return what OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if version is not None:
        context.minimum_version = context.maximum_version = version
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()


def vector(width: int, content: bytes) -> bytes:
    """Return a vector of TLS: its length and its content."""
    return len(content).to_bytes(width, "big") + content


def server_name(*names: bytes, kind: int = 0) -> bytes:
    """Return the extension with the name of the server."""
    return b"\x00\x00" + vector(2, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def hello(*extensions: bytes, end: bytes = b"") -> bytes:
    """Return the message ClientHello with some extensions, without the head of a record."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    return b"\x01" + vector(3, body + vector(2, b"".join(extensions)) + end)


def records(message: bytes, size: int = 16_384) -> bytes:
    """Return a message in records of some size."""
    return b"".join(b"\x16\x03\x01" + vector(2, message[at : at + size]) for at in range(0, len(message), size))


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_client(version: ssl.TLSVersion | None) -> None:
    """What OpenSSL sends is read, whole and at any point before its end."""
    data = real_hello(version=version)
    assert read_client_hello(data) == ClientHello("example.org", False, len(data))
    assert read_client_hello(data + b"more") == ClientHello("example.org", False, len(data))
    for size in range(len(data)):
        assert read_client_hello(data[:size]) is None
    assert read_client_hello(real_hello(None)) == ClientHello("", False, len(real_hello(None)))


@given(st.integers(1, 300))
def test_a_hello_in_many_records(size: int) -> None:
    """A ClientHello that is spread over records of any size is read as one."""
    data = records(hello(server_name(b"Example.ORG")), size)
    assert read_client_hello(data) == ClientHello("example.org", False, len(data))
    assert read_client_hello(data[:-1]) is None


@pytest.mark.parametrize("kind", [b"\xfe\x0d", b"\xfe\x0a", b"\xff\xce"])
def test_hidden_names_are_seen(kind: bytes) -> None:
    """The extension with which a name can be hidden is found, in all of its versions."""
    data = records(hello(server_name(b"example.org"), kind + vector(2, bytes(200))))
    found = read_client_hello(data)
    assert found is not None and found.encrypted and found.server_name == "example.org"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        bytes.fromhex("802e010002"),  # SSL 2
        bytes.fromhex("1602000005"),
        bytes.fromhex("160301000017"),  # a record without content
        bytes.fromhex("1603014001"),  # a record that is too long
        bytes.fromhex("15030100020128"),  # an alert
        bytes.fromhex("1703010005"),
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # of 16 MiB
        records(hello(server_name(b"a.org"), server_name(b"b.org"))),
        records(hello(server_name(b"a.org", b"b.org"))),
        records(hello(server_name(b"a.org", kind=1))),
        records(hello(server_name("\u00e4.org".encode()))),
        records(hello(server_name(b"a.org")[:-1] + b"")),
        records(hello(server_name(b"a.org"), end=b"x")),
        records(hello(server_name(b"a.org")) + hello(server_name(b"b.org"))),
        records(hello(server_name(b"a.org")) + b"\x01"),
        (records(hello(server_name(b"a.org")) + b"\x01\x00"))[:-2],
        b"\x16\x03\x01\x00\x01\x01" + b"\x17\x03\x03\x00\x01\x00",
        b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\xff" * MAX_HELLO,
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    """Other protocols, two names, two messages and impossible lengths are refused."""
    with pytest.raises(NotTLS):
        read_client_hello(data)


def test_a_hello_without_an_end_is_refused() -> None:
    """A message that claims to be long is waited for until a bound only."""
    message = b"\x01" + (MAX_HELLO - 4).to_bytes(3, "big") + bytes(MAX_HELLO)
    data = records(message, 100)
    assert read_client_hello(data[: MAX_HELLO // 2]) is None
    with pytest.raises(NotTLS):
        read_client_hello(data[:MAX_HELLO])


def test_a_hello_in_very_many_records_is_refused() -> None:
    """Nobody makes the proxy read thousands of records again with each further byte."""
    message = b"\x01" + (MAX_HELLO - 4).to_bytes(3, "big") + bytes(MAX_HELLO)
    assert read_client_hello(records(message[:512], 1)) is None
    with pytest.raises(NotTLS, match="too many records"):
        read_client_hello(records(message[:513], 1))


def test_a_second_hello_is_recognised() -> None:
    """A server that asks for another group sends a request that is told apart from its usual answer."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    usual = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(32)
    retry = usual[:11] + bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    assert len(usual) == MIN_SERVER_HELLO
    assert is_retry_request(retry) and not is_retry_request(usual)
    assert skip_change_cipher_spec(b"\x14\x03\x03\x00\x01\x01\x16") == 6
    assert skip_change_cipher_spec(real_hello()) == 0


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\x16\x03\x01" + vector(2, b"\x01" + rest)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Bytes of any kind are a ClientHello, the beginning of one, or refused; never another error."""
    try:
        read_client_hello(data)
    except NotTLS as why:
        assert str(why).isprintable()


@given(st.data())
def test_damaged_hellos_are_read_or_refused(data: st.DataObject) -> None:
    """A real ClientHello with some bytes changed never causes another error, and never takes another size."""
    whole = bytearray(real_hello())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_client_hello(whole)
    except NotTLS:
        return
    assert found is None or 0 < found.size <= len(whole)
