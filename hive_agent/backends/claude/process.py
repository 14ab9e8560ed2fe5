"""The running process of Claude Code, and one prompt to it.

The protocol is the one of the package claude-agent-sdk: `user` messages in, events out, and beside them
`control_request` and `control_response`, which either side may begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hive_agent.backends.claude.events import ClaudeEventReader
from hive_agent.infra import log as harness_log
from hive_agent.infra.json_text import field, parsed, text
from hive_agent.infra.processes import Program, next_line, reap_adopted

log = logging.getLogger(__name__)


_STDERR_KEPT = 4_000
_LAST_WORDS_SECONDS = 0.5
"""How long stderr is read after the end: a process left behind may hold it open."""
_STOP = "stop"
"""Our name for the hook that runs when the model is about to end a turn."""
_HOOK_SECONDS = 60
"""How long the program waits for that hook."""
_MOST_MODELS = 50

More = Callable[[], Awaitable[str]]
"""What is to go into the turn that is about to end; empty if nothing."""


class ClaudeProcess:
    """Started and not yet ended. Whoever runs a turn sets `heed`, and `more` for messages in its middle."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.heed: Callable[[Mapping[str, Any]], None] | None = None
        """Gets every event. What comes while it is None is nobody's."""
        self.more: More | None = None
        self.moved = asyncio.Event()
        """Set with every line: it lives."""
        self.gone = asyncio.Event()
        """It has closed its output, which it does when it ends."""
        self.models: Sequence[str] = ()
        self.used = False
        """It has been given a prompt: by then its MCP servers run."""
        self._stderr = bytearray()
        self._initialize = ""
        self._answering: dict[str, asyncio.Task[None]] = {}
        self._reading = asyncio.create_task(self._read())
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> ClaudeProcess:
        """Raises OSError. It takes prompts at once; whether it comes up shows in the first turn."""
        process = cls(await Program.start(argv, environment, directory))
        hook = {"matcher": None, "hookCallbackIds": [_STOP], "timeout": _HOOK_SECONDS}
        # Without `systemPromptSnapshot` a conversation would keep the identity that it began with, also after the
        # agent was reconfigured.
        process._initialize = process._request(
            {"subtype": "initialize", "hooks": {"Stop": [hook]}, "systemPromptSnapshot": False}
        )
        return process

    def say(self, words: str, number: str) -> None:
        """Give a prompt. `number` is a UUID, under which its result names it."""
        message = {"role": "user", "content": words}
        self._send({"type": "user", "message": message, "parent_tool_use_id": None, "session_id": "", "uuid": number})

    def interrupt(self) -> None:
        """Ask it to end the turn; the result comes as that of every turn."""
        self._request({"subtype": "interrupt"})

    async def last_words(self) -> str:
        """How it ended by itself, and the end of what it wrote on stderr."""
        ended = asyncio.ensure_future(self.program.process.wait())
        await asyncio.wait({self._listening, ended}, timeout=_LAST_WORDS_SECONDS)
        ended.cancel()
        code = self.program.process.returncode
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        said = self._stderr.decode(errors="replace").strip()
        return f"{how}: {said}" if said else how

    async def end(self) -> None:
        """Kill it and all that it has started."""
        try:
            await self.program.end()
        finally:
            tasks = [self._reading, self._listening, *self._answering.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.gone.set()

    # --- lines --------------------------------------------------------------------------------------------------

    def _request(self, request: Mapping[str, Any]) -> str:
        number = str(uuid.uuid4())
        self._send({"type": "control_request", "request_id": number, "request": request})
        return number

    def _send(self, message: Mapping[str, Any]) -> None:
        # Not awaited: at most one turn's prompt waits here, and a program that takes none says nothing, which shows.
        stdin = self.program.process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        try:
            while (line := await next_line(self.program.process)) is not None:
                if not line:
                    continue
                self.moved.set()
                event = parsed(line)
                if event is not None:  # programs that it runs may write in between
                    self._take(event)
        except Exception as error:
            log.error("an event of claude was not understood: %s", harness_log.where(error))
        finally:
            self.gone.set()
            self.moved.set()

    async def _listen(self) -> None:
        stderr = self.program.process.stderr
        while stderr is not None and (piece := await stderr.read(65_536)):
            self._stderr += piece
            del self._stderr[:-_STDERR_KEPT]

    def _take(self, event: Mapping[str, Any]) -> None:
        match text(event, "type"):
            case "control_response":
                self._take_response(event)
            case "control_request":
                number = text(event, "request_id")
                task = asyncio.create_task(self._answer(number, field(event, "request")))
                self._answering[number] = task
                task.add_done_callback(lambda _task: self._answering.pop(number, None))
            case "control_cancel_request":
                task_or_none = self._answering.get(text(event, "request_id"))
                if task_or_none is not None:
                    task_or_none.cancel()
            case _:
                if text(event, "type") == "user":
                    reap_adopted()  # a tool has ended, and may have left something behind
                if self.heed is not None:
                    self.heed(event)

    def _take_response(self, event: Mapping[str, Any]) -> None:
        if field(event, "response", "request_id") == self._initialize:
            models = field(event, "response", "response", "models")
            named = [text(model, "value") for model in models] if isinstance(models, list) else []
            usable = [name for name in named if name.isprintable() and 0 < len(name) <= 200 and name != "default"]
            self.models = usable[:_MOST_MODELS]

    async def _answer(self, number: str, request: object) -> None:
        """Answer what the program asks: only for the hook it was given."""
        answer: dict[str, Any] = {"subtype": "success", "response": {}}
        if field(request, "subtype") != "hook_callback" or field(request, "callback_id") != _STOP:
            answer = {"subtype": "error", "error": "this is not answered here"}
        elif self.more is not None:
            try:
                async with asyncio.timeout(_HOOK_SECONDS / 2):
                    words = await self.more()
                if words:
                    answer["response"] = {"decision": "block", "reason": words}
            except Exception as error:
                log.error("no messages were put into the turn: %s", harness_log.where(error))
        with contextlib.suppress(ConnectionError):
            self._send({"type": "control_response", "response": {**answer, "request_id": number}})


_SILENCE_SECONDS = 660.0
"""How long nothing at all may come while no tool runs. Claude Code itself gives up on its API after 600 s."""
_INTERRUPT_SECONDS = 5.0
"""How long it may take to stop by itself."""


class NoOutput(Exception):
    """The program says nothing any more; the text is for people."""


class TurnRun:
    """A turn's way through the process. Afterwards nothing runs that the turn has started, but MCP servers do."""

    def __init__(self, process: ClaudeProcess, reader: ClaudeEventReader) -> None:
        self._process = process
        self._reader = reader
        self._servers: Set[int] | None = None
        self.last_words = ""
        """What the program said when it ended in the middle of the turn."""

    @property
    def can_go_on(self) -> bool:
        """Whether the process can take another turn."""
        return self._reader.result is not None and not self._process.gone.is_set() and not self._reader.server_missing

    async def run(self, words: str, number: str, more: More | None) -> None:
        """Give the prompt and wait for its end. Raises Silence."""
        process, reader = self._process, self._reader
        if process.used:
            self._servers = process.program.started()
        process.used = True
        process.heed = self._take
        process.more = None if more is None else self._adding(more)
        process.say(words, number)
        while not reader.over and not process.gone.is_set():
            process.moved.clear()
            try:
                async with asyncio.timeout(None if reader.working else _SILENCE_SECONDS + reader.waits):
                    await process.moved.wait()
            except TimeoutError:
                raise NoOutput(f"Claude Code said nothing for {_SILENCE_SECONDS:g} s") from None
        if not reader.over:
            self.last_words = await process.last_words()
        await self._clear()

    async def interrupt(self) -> bool:
        """Have the turn stopped; whether the process can take another one."""
        process, reader = self._process, self._reader
        if not reader.heard:
            return False  # It may not have begun yet, and would begin after all.
        process.more = None
        process.interrupt()
        try:
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                while not reader.over and not process.gone.is_set():
                    process.moved.clear()
                    await process.moved.wait()
        except TimeoutError:
            log.warning("Claude Code did not stop its turn in time, and is ended")
        await self._clear()
        return self.can_go_on

    def _take(self, event: Mapping[str, Any]) -> None:
        self._reader.feed(event)
        if self._servers is None and self._reader.session is not None:
            # It has started its MCP servers and not asked the model yet: what comes from here on is the turn's.
            self._servers = self._process.program.started()

    def _adding(self, more: More) -> More:
        async def adding() -> str:
            try:
                words = await more()
            except BaseException:
                self._reader.missed()  # Some may have been taken by then.
                raise
            if words:
                self._reader.added()
            return words

        return adding

    async def _clear(self) -> None:
        self._process.heed = self._process.more = None
        await self._process.program.end_started(self._servers or frozenset())
        reap_adopted()
