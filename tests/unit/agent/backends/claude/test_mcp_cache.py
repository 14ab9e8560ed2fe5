"""What stands before the hive's MCP server and answers for it: as it would, and only as long as it would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from hive_agent.backends.claude import mcp_cache

SERVER = """
import json, sys
tools = open(sys.argv[1]).read().split()
for line in sys.stdin:
    asked = json.loads(line)
    print("server", asked["method"], file=sys.stderr, flush=True)
    answers = {"initialize": {"serverInfo": "s"}, "tools/list": {"tools": tools}, "tools/call": {"said": "hi"}}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answers[asked["method"]]}), flush=True)
"""


class RunningProxy:
    """The front as a CLI has it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self.stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr

    def say(self, number: int | None, method: str, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if number is None else {"id": number})
        self.stdin.write(json.dumps(message).encode() + b"\n")
        self.stdin.flush()

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self._stdout.readline())
        return heard

    def ask(self, number: int, method: str, **params: Any) -> Any:
        self.say(number, method, **params)
        answer = self.hear()
        assert answer["id"] == number
        return answer.get("result", answer.get("error"))

    def asked_of_the_server(self) -> list[str]:
        """All that the server was asked; ends the front."""
        self.stdin.close()
        return [_method(line) for line in self._stderr if line.startswith(b"server")]


def _method(line: bytes) -> str:
    return line.split()[1].decode()


@contextmanager
def front(place: Path, tools: str, version: str = "1") -> Iterator[RunningProxy]:
    """A server with these tools and the front before it."""
    (place / "server.py").write_text(SERVER)
    (place / "tools").write_text(tools)
    command = [sys.executable, "-I", str(place / "server.py"), str(place / "tools")]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", mcp_cache.__file__, str(place / "memory"), version, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield RunningProxy(process)
        finally:
            _close(process.stdin)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None and not pipe.closed:
        pipe.close()


def introduced(given: RunningProxy) -> Any:
    """What a CLI asks at its start; returns the tools."""
    assert "message" in given.ask(1, "server/discover")
    assert given.ask(2, "initialize", clientInfo="c") == {"serverInfo": "s"}
    given.say(None, "notifications/initialized")
    return given.ask(3, "tools/list")["tools"]


def test_second_start_does_not_wait_for_the_server(tmp_path: Path) -> None:
    """The second time the answers come from memory, and the server still gets all that it has to know."""
    with front(tmp_path, "send recv") as first:
        assert introduced(first) == ["send", "recv"]
    with front(tmp_path, "send recv") as second:
        (tmp_path / "server.py").write_text("import sys; sys.stdin.read()")  # answers nothing
        assert introduced(second) == ["send", "recv"]
    with front(tmp_path, "send recv") as third:
        assert introduced(third) == ["send", "recv"]
        assert third.ask(4, "tools/call", name="send") == {"said": "hi"}
        asked = third.asked_of_the_server()
    assert asked == ["initialize", "notifications/initialized", "tools/list", "tools/call"]


def test_changed_tools(tmp_path: Path) -> None:
    """Tools of another version are never those of memory; if they change all the same, the client is told to ask."""
    with front(tmp_path, "send") as first:
        introduced(first)
    with front(tmp_path, "send recv", version="2") as second:
        assert introduced(second) == ["send", "recv"]
    with front(tmp_path, "other", version="2") as third:
        assert introduced(third) == ["send", "recv"]
        assert third.hear()["method"] == "notifications/tools/list_changed"
        assert third.ask(4, "tools/list")["tools"] == ["other"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": "1"}', '{"version": "1", "answers": 3}', "[" * 100_000, "\xff"]
)
def test_broken_memory(text: str, tmp_path: Path) -> None:
    """A memory that the agent has broken is none, and is mended."""
    (tmp_path / "memory").write_bytes(text.encode("latin-1"))
    cache = mcp_cache.AnswerCache(str(tmp_path / "memory"), "1")
    assert cache.answer("q") is None
    assert cache.store("q", 1)
    assert mcp_cache.AnswerCache(str(tmp_path / "memory"), "1").answer("q") == 1


def test_a_file_of_a_killed_proxy_is_in_no_ones_way(tmp_path: Path) -> None:
    """Half an answer under the same process number is written over."""
    (tmp_path / f"memory.{os.getpid()}").write_text('{"version')
    assert mcp_cache.AnswerCache(str(tmp_path / "memory"), "1").store("q", 1)
    assert mcp_cache.AnswerCache(str(tmp_path / "memory"), "1").answer("q") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """However many questions there are, only the last ones are remembered; a link is not followed."""
    cache = mcp_cache.AnswerCache(str(tmp_path / "memory"), "1")
    for number in range(100):
        cache.store(f"q{number}", number)
    assert len(json.loads((tmp_path / "memory").read_text())["answers"]) <= 20
    (tmp_path / "link").symlink_to(tmp_path / "memory")
    assert mcp_cache.AnswerCache(str(tmp_path / "link"), "1").answer("q99") is None


def test_server_that_cannot_start(tmp_path: Path) -> None:
    """A server that ends at once ends the front as well, and is not answered for a second time."""
    with front(tmp_path, "send") as first:
        introduced(first)
    with front(tmp_path, "send") as second:
        (tmp_path / "tools").unlink()
        introduced(second)
        second.say(4, "tools/call", name="send")
        assert second.process.wait(60) == 1
    assert not (tmp_path / "memory").exists()
