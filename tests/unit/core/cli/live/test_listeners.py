"""The doctor's own listeners: they tell which agent has come."""

from __future__ import annotations

import socket

from hive_core.cli.live.listeners import HostListeners


def said(address: tuple[str, int] | str, token: str) -> str:
    """Say a token to a listener, and return what it answers."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(10)
        one.connect(address)
        one.sendall(f"{token}\n".encode())
        return one.recv(100).decode()


def test_only_expected_tokens_are_noted() -> None:
    """An agent is known by its token at each listener; others who come are not told anything and not kept."""
    listeners = HostListeners()
    with listeners.open():
        token, other = listeners.new_token(), listeners.new_token()
        assert said(listeners.addresses["127.0.0.1"], token) == listeners.answer
        assert said(f"\0{listeners.abstract}", token) == listeners.answer
        assert said(listeners.addresses["127.0.0.1"], "nobody's") == ""
        assert listeners.seen == {token: {"127.0.0.1", f"@{listeners.abstract}"}}
        assert other not in listeners.seen
        address = listeners.addresses["127.0.0.1"]
    with socket.socket() as late:
        assert late.connect_ex(address) != 0
