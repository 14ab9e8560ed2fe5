"""The probe, against real sockets: what it reports of each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hive_agent.access.probe import main, try_all
from hive_core.protocol.access.probe import Tried, Try, decode_report, encode_order


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Serve one connection on a port of the loopback; yields the port, and what is heard there."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(1_000))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(10)


def test_what_answers_is_reached() -> None:
    """A listener hears the token, and what it says is reported."""
    with answering(b"it is me") as (port, heard):
        assert try_all("token", [Try("tcp", "127.0.0.1", port)], {}) == [Tried("reached", "", "it is me")]
    assert heard == [b"token\n"]


def test_refusals_and_missing_ways_differ(tmp_path: Path) -> None:
    """A port without a listener refuses; a path without a socket is no way."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    missing = Try("unix", str(tmp_path / "missing"))
    tried = try_all("token", [Try("tcp", "127.0.0.1", port), Try("udp", "127.0.0.1", port), missing], {})
    assert [each.outcome for each in tried] == ["refused", "refused", "blocked"]
    assert tried[2].detail == "No such file or directory"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 Connection Established\r\n\r\n", Tried("reached", "HTTP/1.1 200 Connection Established")),
        (b"HTTP/1.1 403 Forbidden\r\nx: y\r\n\r\nno rule\nmore", Tried("refused", "HTTP/1.1 403 Forbidden", "no rule")),
    ],
)
def test_an_allowed_host_is_asked_of_the_proxy(answer: bytes, outcome: Tried) -> None:
    """The proxy is the one that the agent's programs use, and its reason is reported."""
    with answering(answer) as (port, heard):
        environment = {"https_proxy": f"http://127.0.0.1:{port}"}
        assert try_all("token", [Try("proxy", "a.example", 443)], environment) == [outcome]
    assert heard == [b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"]
    assert try_all("token", [Try("proxy", "a.example", 443)], {})[0].outcome == "blocked"


def test_the_program_prints_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The program prints a report on its order; an order that it does not understand ends it with 2."""
    assert main(encode_order("token", [Try("unix", str(tmp_path / "missing"))]), {}) == 0
    (tried,) = decode_report(capsys.readouterr().out.encode(), 1)
    assert tried.outcome == "blocked"
    assert main("{}", {}) == 2
