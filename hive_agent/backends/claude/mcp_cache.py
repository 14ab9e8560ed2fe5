"""A proxy for an MCP server that starts slowly: it answers the first requests of a client from a cache.

At every start an agent CLI sends a server the same requests (for its identity and its tools) and waits for the answers
before it calls the model. Importing the MCP SDK takes longer than the rest of the CLI's start. So this program, which
starts quickly, sends the cached answers and starts the server meanwhile. The server gets the same requests, and its
answers update the cache. All other messages are passed on unchanged.

    python -I -S mcp_cache.py CACHE VERSION COMMAND [ARGUMENT ...]

CACHE is the file of cached answers, which are valid only for the same VERSION of the server. If the server answers
differently, the client is notified that the list has changed, and requests it again. This is run as a script and
imports nothing of its package, because that would take as long as it saves.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import IO, Any

_REMEMBERED = frozenset({"initialize", "tools/list", "prompts/list", "resources/list", "resources/templates/list"})
_REFUSED = frozenset({"server/discover"})
"""Sent by clients of the protocol of 2026, which starts with a subscription that only the server itself can confirm.
After a refusal they continue with `initialize`, as with older servers."""
_NO_SUCH_METHOD = -32601
_LONGEST_MEMORY = 4 * 1024 * 1024
_MOST_ANSWERS = 20
"""Requests also differ between versions of the client."""
_HEAD_START_SECONDS = 0.5
"""Delay of the server's start while no request needs it: the agent CLI starts on the same processors."""


class AnswerCache:
    """Answers by request. The agent can write the file, so invalid content is ignored."""

    def __init__(self, path: str, version: str) -> None:
        self._path = path
        self._version = version
        self._answers = _read(path, version)

    def answer(self, question: str) -> Any:
        """The cached `result`, or None."""
        return self._answers.get(question)

    def store(self, question: str, result: Any) -> bool:
        """Store an answer, also on disk; returns whether it differs from the cached one."""
        if self._answers.get(question) == result:
            return False
        self._answers.pop(question, None)
        self._answers[question] = result
        for oldest in list(self._answers)[:-_MOST_ANSWERS]:
            del self._answers[oldest]
        fresh = f"{self._path}.{os.getpid()}"
        # In a sandbox a killed proxy often had the same number, and may have left its file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            with os.fdopen(os.open(fresh, flags, 0o600), "w") as file:
                json.dump({"version": self._version, "answers": self._answers}, file)
            os.replace(fresh, self._path)  # noqa: PTH105 (importing pathlib would double the start time)
        except OSError as error:
            sys.stderr.write(f"the MCP server's answers cannot be cached: {error}\n")
        return True

    def delete(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108


def _read(path: str, version: str) -> dict[str, Any]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = json.loads(file.read(_LONGEST_MEMORY))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("version") != version:
        return {}
    answers = found.get("answers")
    return answers if isinstance(answers, dict) else {}


def question(message: dict[str, Any]) -> str | None:
    """The request without its id, as key of the cache; None if its answer is not cached."""
    method = message.get("method")
    if "id" not in message or method not in _REMEMBERED:
        return None
    return json.dumps([method, message.get("params")], sort_keys=True)


class CachingProxy:
    """Connects the CLI on stdin and stdout with the server, which is started when needed, or after a short delay."""

    def __init__(self, cache: AnswerCache, command: list[str]) -> None:
        self._cache = cache
        self._command = command
        self._output = sys.stdout.buffer
        self._lock = threading.Lock()
        self._server: IO[bytes] | None = None
        self._waiting: list[bytes] = []
        self._asked: dict[str, tuple[str, bool]] = {}
        """By id: the request, and whether it was answered from the cache."""

    def run(self) -> None:
        """Serve until stdin ends."""
        timer = threading.Timer(_HEAD_START_SECONDS, self._start)
        timer.daemon = True
        timer.start()
        for line in sys.stdin.buffer:
            self._take(line)
        with self._lock:
            if self._server is not None:
                self._server.close()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            message = {}
        asked = question(message)
        urgent = "id" in message
        if urgent and message.get("method") in _REFUSED:
            self._answer(message["id"], error={"code": _NO_SUCH_METHOD, "message": "Method not found"})
            return
        if asked is not None:
            known = self._cache.answer(asked)
            self._asked[json.dumps(message["id"])] = (asked, known is not None)
            if known is not None:
                self._answer(message["id"], result=known)
                urgent = False
        with self._lock:
            if self._server is None:
                self._waiting.append(line)
            else:
                self._server.write(line)
                self._server.flush()
        if urgent:
            self._start()

    def _start(self) -> None:
        import subprocess  # noqa: PLC0415 (would double the start time)

        with self._lock:
            if self._server is not None:
                return
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            assert process.stdin is not None and process.stdout is not None
            self._server = process.stdin
            process.stdin.writelines(self._waiting)
            process.stdin.flush()
            self._waiting.clear()
        threading.Thread(target=self._back, args=(process.stdout,), daemon=True).start()

    def _back(self, answers: IO[bytes]) -> None:
        heard = False
        for line in answers:
            heard = True
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict) and "method" not in message:
                asked, answered = self._asked.pop(json.dumps(message.get("id")), ("", False))
                changed = bool(asked) and "result" in message and self._cache.store(asked, message["result"])
                if answered:
                    if changed:
                        self._notify_change(json.loads(asked)[0])
                    continue
            self._write(line)
        if not heard:  # the server does not start: at its next start the CLI must notice
            self._cache.delete()
        os._exit(1)  # the server has exited: the CLI restarts both

    def _notify_change(self, method: str) -> None:
        """Notify the client that a list differs from the cached answer."""
        if method.endswith("/list"):
            notification = {"jsonrpc": "2.0", "method": f"notifications/{method.partition('/')[0]}/list_changed"}
            self._write(json.dumps(notification).encode() + b"\n")

    def _answer(self, number: object, **answer: Any) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", "id": number, **answer}).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            self._output.write(line)
            self._output.flush()


if __name__ == "__main__":
    CachingProxy(AnswerCache(sys.argv[1], sys.argv[2]), sys.argv[3:]).run()
