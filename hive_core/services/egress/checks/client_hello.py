"""The first messages of TLS: the name of the server in a ClientHello, and the request for a second one.

A ClientHello may be spread over several records (RFC 8446, section 5.1). What servers could read differently, such as
an extension that is there twice, is refused. A client that hides the name of the server sends the extension
`encrypted_client_hello`. Browsers send it with random content, too (GREASE, RFC 9849, section 6.2), and made so that
nobody but the server can tell: the size, the numbers of the algorithms and the random parts are those of a real one.
The extension is therefore refused as such, unless the policy allows it.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_HELLO = 32 * 1024
"""Most bytes of a ClientHello with the heads of its records; those of today have 300 to 2,000."""
MIN_SERVER_HELLO = 5 + 4 + 2 + 32
"""Bytes of a ServerHello up to the end of its random, with the head of its record."""

_HANDSHAKE, _CHANGE_CIPHER_SPEC = 22, 20
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SERVER_NAME = 0
_ENCRYPTED_HELLO = frozenset({0xFE0D, *range(0xFE08, 0xFE0D), 0xFFCE})
"""`encrypted_client_hello`, its drafts, and `encrypted_server_name` before them."""
_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest (RFC 8446, section 4.1.3)."""
_MAX_RECORD = 16_384
_MAX_RECORDS = 512
"""Records of a ClientHello, which is read anew with each of its pieces: programs send one, or a few."""


class NotTLS(ValueError):
    """The reason why bytes are not a ClientHello; a clause."""


class ClientHello(NamedTuple):
    """A ClientHello: the name of the server in lower case, empty if it has none.

    `size` is the number of its bytes with the heads of its records.
    """

    server_name: str
    encrypted: bool
    size: int


def read_client_hello(data: bytes | bytearray) -> ClientHello | None:
    """Return the ClientHello that `data` begins with, None if it is not complete. Raises NotTLS."""
    message = bytearray()
    at = 0
    for _ in range(_MAX_RECORDS):
        head = data[at : at + 5]
        if head[:1] not in (b"", b"\x16") or head[1:2] not in (b"", b"\x03"):
            raise NotTLS("the connection does not begin with TLS")
        if len(head) < 5:
            break
        length = head[3] << 8 | head[4]
        if not 0 < length <= _MAX_RECORD:
            raise NotTLS("a record has an impossible length")
        message += data[at + 5 : at + 5 + length]
        if message and message[0] != _CLIENT_HELLO:
            raise NotTLS("TLS does not begin with a ClientHello")
        if len(message) >= 4:
            size = 4 + int.from_bytes(message[1:4], "big")
            if size > MAX_HELLO:
                raise NotTLS("the ClientHello is too long")
            if len(message) >= size:
                if len(message) > size or at + 5 + length > len(data):
                    raise NotTLS("another message follows in the record of the ClientHello")
                name, encrypted = _read_extensions(bytes(message[4:size]))
                return ClientHello(name, encrypted, at + 5 + length)
        at += 5 + length
        if at >= len(data):
            break
    else:
        raise NotTLS("the ClientHello is spread over too many records")
    if len(data) >= MAX_HELLO:
        raise NotTLS("the ClientHello is too long")
    return None


def skip_change_cipher_spec(data: bytes | bytearray) -> int:
    """Return the length of a record `change_cipher_spec`, which may precede a second ClientHello; else 0."""
    return 6 if data[:1] == b"\x14" and data[3:6] == b"\x00\x01\x01" else 0


def is_retry_request(data: bytes | bytearray) -> bool:
    """Return True if the server's first bytes, MIN_SERVER_HELLO at least, ask for a second ClientHello."""
    return data[0] == _HANDSHAKE and data[5] == _SERVER_HELLO and data[11:43] == _RETRY_RANDOM


def _read_extensions(body: bytes) -> tuple[str, bool]:
    """Return the name of the server, and whether a name may be hidden. Raises NotTLS."""
    at = 2 + 32  # version and random
    try:
        at += 1 + body[at]  # session
        at += 2 + (body[at] << 8 | body[at + 1])  # cipher suites
        at += 1 + body[at]  # compression
        if at == len(body):
            return "", False
        if at + 2 + (body[at] << 8 | body[at + 1]) != len(body):
            raise NotTLS("the extensions have another length than they say")
        at += 2
        name, seen = "", set()
        while at < len(body):
            kind = body[at] << 8 | body[at + 1]
            start = at + 4
            at = start + (body[at + 2] << 8 | body[at + 3])
            if kind in seen:
                raise NotTLS("an extension is there twice")
            seen.add(kind)
            if kind == _SERVER_NAME:
                name = _read_server_name(body[start:at])
    except IndexError:
        raise NotTLS("the ClientHello is cut off") from None
    if at != len(body):
        raise NotTLS("the ClientHello is cut off")
    return name, not seen.isdisjoint(_ENCRYPTED_HELLO)


def _read_server_name(content: bytes) -> str:
    """Return the name in the extension, which holds a list of one name (RFC 6066, section 3). Raises NotTLS."""
    length = len(content)
    if length < 5:
        raise NotTLS("the name of the server is cut off")
    whole, kind, name = content[:2], content[2:3], content[3:5]
    if whole != (length - 2).to_bytes(2, "big") or kind != b"\0" or name != (length - 5).to_bytes(2, "big"):
        raise NotTLS("it does not name one server")
    try:
        return content[5:].decode("ascii").lower()
    except UnicodeDecodeError:
        raise NotTLS("the name of the server is not ASCII") from None
