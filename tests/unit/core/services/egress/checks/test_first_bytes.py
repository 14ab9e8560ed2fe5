"""The protocol of a connection, by its first bytes."""

from __future__ import annotations

import pytest

from hive_core.services.egress.checks.first_bytes import WrongProtocol, is_ssh_greeting, read_protocol


@pytest.mark.parametrize(
    ("data", "port", "protocol"),
    [
        (b"SSH-2.0-OpenSSH\r\n", 22, "ssh"),
        (b"SSH-2.0-OpenSSH\r\n", 2222, "ssh"),
        (b"\x16\x03\x01", 8443, "tls"),
        (b"GET / HTTP/1.1\r\n", 8080, "http"),
        (b"GE", 8080, "http"),
        (b"", 22, None),
        (b"SS", 22, None),
        (b"SSH", 8443, None),
    ],
)
def test_protocols(data: bytes, port: int, protocol: str | None) -> None:
    """TLS, SSH and HTTP/1 are known by few bytes, and with fewer nothing is decided."""
    assert read_protocol(data, port) == protocol


@pytest.mark.parametrize("port", [22, 8443])
@pytest.mark.parametrize(
    "data", [b"\r\nSSH-2.0-x", b"\x00", b"get / HTTP/1.1", b"\x17\x03\x03", b"SSH_", b"ssh-2.0", b"GET\t/"]
)
def test_what_is_none_of_them(data: bytes, port: int) -> None:
    """Anything else is refused, with any port."""
    with pytest.raises(WrongProtocol):
        read_protocol(data, port)


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"G"])
def test_port_22_is_for_ssh(data: bytes) -> None:
    """Protocols that other ports may carry are refused on 22."""
    with pytest.raises(WrongProtocol, match="port 22 is for SSH"):
        read_protocol(data, 22)


def test_greetings_of_servers() -> None:
    """A server that speaks first is known by its first four bytes."""
    assert [is_ssh_greeting(data) for data in (b"", b"SSH", b"SSH-2.0", b"220 ftp", b"2")] == [
        None,
        None,
        True,
        False,
        False,
    ]
