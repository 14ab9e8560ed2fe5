"""Names of hosts, in one spelling, and the texts that are none: addresses in every notation, and names of one label."""

from __future__ import annotations

import re

from hive_core.text import has_invisible, shown

MAX_HOST = 253
"""Longest name of a host in DNS, without the dot at its end (RFC 1035, section 2.3.4)."""

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes the whole an IPv4 address, such as `127.1` and `0x7f000001` (URL Standard, host parsing)."""
_LOCAL = frozenset({"localhost", "local", "internal", "onion", "alt", "invalid"})
"""Top-level names that are looked up on this machine or in its network, or not in DNS at all (RFC 6761 and others)."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class NoHost(ValueError):
    """The reason why a text is no name of a host; a clause that follows "it"."""


def normal_host(text: str) -> str:
    """Return a name of DNS in lower case, as A-labels, without a dot at its end. Raises NoHost."""
    name = text if text.isascii() else _as_ascii(text)
    name = name.removesuffix(".").lower()
    return ascii_host(name)


def ascii_host(name: str) -> str:
    """Return `name` if it is in the normal form already. Raises NoHost."""
    if len(name) > MAX_HOST:
        raise NoHost(f"has more than {MAX_HOST} characters")
    if ":" in name or "[" in name or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise NoHost("is an address, and only names are reached")
    if _NAME.fullmatch(name) is None:
        if _NAME.fullmatch(f"{name}.a"):
            raise NoHost("has one label only, and a name in the internet has two at least")
        raise NoHost("is not a name of a host")
    if name.rpartition(".")[2] in _LOCAL:
        raise NoHost("is a name of this machine or of its network")
    return name


def split_port(text: str) -> tuple[str, int | None]:
    """Return host and port of `host` or `host:port`; the host is not checked. Raises NoHost."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    if not (_PORT.fullmatch(port) and int(port) <= 65_535):
        raise NoHost(f"has no port from 1 to 65535 after its colon, but {shown(port)}")
    return host, int(port)


def _as_ascii(text: str) -> str:
    import idna  # noqa: PLC0415 - its tables take memory, and few names need them

    # UTS 46 leaves out characters that are not seen.
    if has_invisible(text):
        raise NoHost("has characters that are not seen")
    try:
        return idna.encode(text, uts46=True, transitional=False, std3_rules=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise NoHost("is not a name of a host") from None
