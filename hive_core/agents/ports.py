"""Which TCP port an agent's web page gets."""

from __future__ import annotations

from collections.abc import Container

from hive_core.errors import conflict
from hive_core.protocol.names import MANAGER

_MANAGER_PORT = 8000
_FIRST_PORT = 8100
_PORTS = 900


def choose_port(name: str, taken: Container[int]) -> int:
    """The manager's is 8000; others prefer 8100 + FNV-1a(name) % 900, and take the next free one from there."""
    if name == MANAGER:
        return _MANAGER_PORT
    preferred = _fnv1a(name.encode()) % _PORTS
    for offset in range(_PORTS):
        port = _FIRST_PORT + (preferred + offset) % _PORTS
        if port not in taken:
            return port
    raise conflict("no_port_left", f"all {_PORTS} web ports are taken", "destroy an agent with --purge")


def _fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash (draft-eastlake-fnv)."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
