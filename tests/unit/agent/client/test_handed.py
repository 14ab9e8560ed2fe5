"""The listeners of a harness: who shuts one down gets neither its port nor a key."""

from __future__ import annotations

import socket

import pytest

from hive_agent.client.handed import listen


def test_a_port_of_the_host_stays_the_harness_s() -> None:
    """A listener that was shut down listens on the same port again, and nobody else can listen there meanwhile."""
    with listen(0) as listener:
        address = listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="Address already in use"):
                thief.bind(address)
        listener.listen()
        assert listener.getsockname() == address
