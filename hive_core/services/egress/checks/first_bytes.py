"""The protocol of a connection to a port that only a rule with a port reaches, by its first bytes.

Such a port carries TLS, SSH or HTTP/1, and 22 only SSH: what the proxy can check as on the usual ports. In a protocol
that it does not know, a client could ask the server for another host than the one that is allowed.
"""

from __future__ import annotations

import re
from typing import Literal

SSH_PORT = 22

TunnelProtocol = Literal["tls", "ssh", "http"]
_TLS_HANDSHAKE = b"\x16"
_SSH = b"SSH-"
"""The beginning of the first line of either side (RFC 4253, section 4.2). No others may precede it here."""
_METHOD_START = re.compile(rb"[A-Z]{1,20}(?: |\Z)")


class WrongProtocol(ValueError):
    """The reason why a connection is refused; a clause."""


def read_protocol(data: bytes, port: int) -> TunnelProtocol | None:
    """Return the protocol that the first bytes of an agent begin, None if there are too few. Raises WrongProtocol."""
    if data[:4] == _SSH:
        return "ssh"
    if len(data) < len(_SSH) and _SSH.startswith(data):
        return None
    if port == SSH_PORT:
        raise WrongProtocol("port 22 is for SSH, and the connection does not begin with it")
    if data[:1] == _TLS_HANDSHAKE:
        return "tls"
    if _METHOD_START.match(data[:21]):
        return "http"
    raise WrongProtocol("the connection begins with none of TLS, SSH and HTTP/1, which such a port may carry")


def is_ssh_greeting(data: bytes) -> bool | None:
    """Return whether a server that speaks first speaks SSH, None if the bytes are too few to tell."""
    if len(data) < len(_SSH) and _SSH.startswith(data):
        return None
    return data[: len(_SSH)] == _SSH
