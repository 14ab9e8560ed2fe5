"""Stands before an MCP server whose start takes long, and answers from memory what it answered there before.

An agent CLI asks a server the same questions at every start (who it is, which tools it has) and waits for the answers
before it asks the model. Importing the MCP SDK takes longer than all else that the CLI does until then. So this
program, which needs almost nothing to start, gives the answers of last time, and starts the server meanwhile, which is
asked the same and whose answers are remembered for the next time. Everything else goes through unchanged.

    python -I -S mcp_cache.py MEMORY VERSION COMMAND [ARGUMENT ...]

MEMORY is the file of remembered answers, which count only for the same VERSION of the server. Should the server answer
in another way than it was remembered, the client is told that the list has changed, and asks again. Run as a script:
it imports nothing of its package, which would cost what it saves.
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
"""Asked by clients that know the protocol of 2026, which begins with a subscription that only the server itself can
confirm. Refused, they go on with `initialize`, as with every older server."""
_NO_SUCH_METHOD = -32601
_LONGEST_MEMORY = 4 * 1024 * 1024
_MOST_ANSWERS = 20
"""Questions differ with the client's version, too."""
_HEAD_START_SECONDS = 0.5
"""How long the server is not started while nothing needs it: the agent CLI starts on the same processors."""


class AnswerCache:
    """Answers by question. The file is the agent's to write: what is no such table in it is no memory."""

    def __init__(self, path: str, version: str) -> None:
        self._path = path
        self._version = version
        self._answers = _read(path, version)

    def answer(self, question: str) -> Any:
        """The `result` of last time, or None."""
        return self._answers.get(question)

    def learn(self, question: str, result: Any) -> bool:
        """Remember this answer, on disk too; whether it is news."""
        if self._answers.get(question) == result:
            return False
        self._answers.pop(question, None)
        self._answers[question] = result
        for oldest in list(self._answers)[:-_MOST_ANSWERS]:
            del self._answers[oldest]
        fresh = f"{self._path}.{os.getpid()}"
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                json.dump({"version": self._version, "answers": self._answers}, file)
            os.replace(fresh, self._path)  # noqa: PTH105 (to import pathlib takes as long as all else here)
        except OSError as error:
            sys.stderr.write(f"the MCP server's answers are not remembered: {error}\n")
        return True

    def forget(self) -> None:
        """There is nothing to be answered any more."""
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
    """What is asked, whatever its number; None if its answer is not one to remember."""
    method = message.get("method")
    if "id" not in message or method not in _REMEMBERED:
        return None
    return json.dumps([method, message.get("params")], sort_keys=True)


class CachingProxy:
    """Between the CLI on our stdin and stdout and the server, which is started when it is needed, or soon anyway."""

    def __init__(self, cache: AnswerCache, command: list[str]) -> None:
        self._cache = cache
        self._command = command
        self._output = sys.stdout.buffer
        self._lock = threading.Lock()
        self._server: IO[bytes] | None = None
        self._waiting: list[bytes] = []
        self._asked: dict[str, tuple[str, bool]] = {}
        """By id: the question, and whether it was answered from memory."""

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
        import subprocess  # noqa: PLC0415 (takes as long as all else here)

        with self._lock:
            if self._server is not None:
                return
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 (our caller's)
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
                asked, told = self._asked.pop(json.dumps(message.get("id")), ("", False))
                news = bool(asked) and "result" in message and self._cache.learn(asked, message["result"])
                if told:
                    if news:
                        self._tell_change(json.loads(asked)[0])
                    continue
            self._write(line)
        if not heard:  # it cannot even start: the next time the CLI is to know
            self._cache.forget()
        os._exit(1)  # the server has ended: so does this, and the CLI starts both anew

    def _tell_change(self, method: str) -> None:
        """What the client was told is out of date. Who the server is may not change; lists may."""
        if method.endswith("/list"):
            told = {"jsonrpc": "2.0", "method": f"notifications/{method.partition('/')[0]}/list_changed"}
            self._write(json.dumps(told).encode() + b"\n")

    def _answer(self, number: object, **answer: Any) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", "id": number, **answer}).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            self._output.write(line)
            self._output.flush()


if __name__ == "__main__":
    CachingProxy(AnswerCache(sys.argv[1], sys.argv[2]), sys.argv[3:]).run()
