"""The running process of Claude Code, and the run of one prompt.

The protocol is that of the package claude-agent-sdk: `user` messages on stdin, events on stdout, and `control_request`
and `control_response`, which both sides may send.
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
from hive_agent.infra.json_text import field, parse_object, text
from hive_agent.infra.processes import Program, exit_text, next_line, reap_adopted

log = logging.getLogger(__name__)


_STDERR_KEPT = 4_000
_STDERR_SECONDS = 0.5
"""Seconds for which stderr is read after the exit, because an orphaned process may hold it open."""
_STOP = "stop"
"""Id of the hook that runs when the model is about to end a turn."""
_HOOK_SECONDS = 60
"""Time limit of the program for that hook."""
_MOST_MODELS = 50

More = Callable[[], Awaitable[str]]
"""Returns the text to add to the turn that is about to end; empty if there is none."""


class ClaudeProcess:
    """A started process. The run of a turn sets `on_event`, and `more` for messages that are added to the turn."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.on_event: Callable[[Mapping[str, Any]], None] | None = None
        """Gets every event. Events are dropped while it is None."""
        self.more: More | None = None
        self.moved = asyncio.Event()
        """Set with every line of output."""
        self.gone = asyncio.Event()
        """Set when the process has closed its output, which it does when it exits."""
        self.models: Sequence[str] = ()
        self.used = False
        """Return whether it has got a prompt: then its MCP servers run."""
        self._stderr = bytearray()
        self._initialize = ""
        self._answering: dict[str, asyncio.Task[None]] = {}
        self._reading = asyncio.create_task(self._read_events())
        self._reading_stderr = asyncio.create_task(self._read_stderr())

    @classmethod
    async def start(cls, argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> ClaudeProcess:
        """Start the process, which accepts prompts at once; a failing start shows in the first turn. Raises OSError."""
        process = cls(await Program.start(argv, environment, directory))
        hook = {"matcher": None, "hookCallbackIds": [_STOP], "timeout": _HOOK_SECONDS}
        # With a snapshot, a conversation would keep its first system prompt, even after a change of the agent's
        # configuration.
        process._initialize = process._request(
            {"subtype": "initialize", "hooks": {"Stop": [hook]}, "systemPromptSnapshot": False}
        )
        return process

    def send_prompt(self, parts: Sequence[str], number: str) -> None:
        """Send a prompt, of which the program interprets only the last part. `number` is a UUID, which its result
        contains.
        """
        message = {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}
        self._send({"type": "user", "message": message, "parent_tool_use_id": None, "session_id": "", "uuid": number})

    def interrupt(self) -> None:
        """Request the end of the turn, which then has a result as usual."""
        self._request({"subtype": "interrupt"})

    async def exit_report(self) -> str:
        """The return code of the exited process, and the end of its stderr."""
        exited = asyncio.ensure_future(self.program.process.wait())
        await asyncio.wait({self._reading_stderr, exited}, timeout=_STDERR_SECONDS)
        exited.cancel()
        code = self.program.process.returncode
        how = "" if code is None else f" ({exit_text(code)})"
        errors = self._stderr.decode(errors="replace").strip()
        return f"{how}: {errors}" if errors else how

    async def end(self) -> None:
        """Kill the process and its descendants."""
        try:
            await self.program.end()
        finally:
            tasks = [self._reading, self._reading_stderr, *self._answering.values()]
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
        # Not drained: at most one prompt is buffered, and a program that does not read it is found by its silence.
        stdin = self.program.process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(json.dumps(message).encode() + b"\n")

    async def _read_events(self) -> None:
        try:
            while (line := await next_line(self.program.process)) is not None:
                if not line:
                    continue
                self.moved.set()
                event = parse_object(line)
                if event is not None:  # programs that it runs may write other lines
                    self._dispatch(event)
        except Exception as error:
            log.error("an event of Claude Code could not be processed: %s", harness_log.where(error))
        finally:
            self.gone.set()
            self.moved.set()

    async def _read_stderr(self) -> None:
        stderr = self.program.process.stderr
        while stderr is not None and (piece := await stderr.read(65_536)):
            self._stderr += piece
            del self._stderr[:-_STDERR_KEPT]

    def _dispatch(self, event: Mapping[str, Any]) -> None:
        match text(event, "type"):
            case "control_response":
                self._read_models(event)
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
                    reap_adopted()  # a tool has ended, and may have left orphans
                if self.on_event is not None:
                    self.on_event(event)

    def _read_models(self, event: Mapping[str, Any]) -> None:
        if field(event, "response", "request_id") == self._initialize:
            models = field(event, "response", "response", "models")
            named = [text(model, "value") for model in models] if isinstance(models, list) else []
            usable = [name for name in named if name.isprintable() and 0 < len(name) <= 200 and name != "default"]
            self.models = usable[:_MOST_MODELS]

    async def _answer(self, number: str, request: object) -> None:
        """Answer a request of the program; all but the one for the stop hook are refused."""
        answer: dict[str, Any] = {"subtype": "success", "response": {}}
        if field(request, "subtype") != "hook_callback" or field(request, "callback_id") != _STOP:
            answer = {"subtype": "error", "error": "this request is not supported"}
        elif self.more is not None:
            try:
                async with asyncio.timeout(_HOOK_SECONDS / 2):
                    added = await self.more()
                if added:
                    answer["response"] = {"decision": "block", "reason": added}
            except Exception as error:
                log.error("no messages were added to the turn: %s", harness_log.where(error))
        with contextlib.suppress(ConnectionError):
            self._send({"type": "control_response", "response": {**answer, "request_id": number}})


_SILENCE_SECONDS = 660.0
"""Time limit without output while no tool runs. Claude Code's own timeout for its API is 600 s."""
_INTERRUPT_SECONDS = 5.0
"""Time limit for the end of an interrupted turn."""


class NoOutput(Exception):
    """The program produces no more output; the text is shown to people."""


class TurnRun:
    """The run of one turn in the process. At its end, all processes that the turn started are killed, except for MCP
    servers.
    """

    def __init__(self, process: ClaudeProcess, reader: ClaudeEventReader) -> None:
        self._process = process
        self._reader = reader
        self._servers: Set[int] | None = None
        self.exit_report = ""
        """The report of a program that exited during the turn."""

    @property
    def can_continue(self) -> bool:
        """Return whether the process can run another turn."""
        return self._reader.result is not None and not self._process.gone.is_set() and not self._reader.server_missing

    async def run(self, parts: Sequence[str], number: str, more: More | None) -> None:
        """Send the prompt and wait for its result. Raises NoOutput."""
        process, reader = self._process, self._reader
        if process.used:
            self._servers = process.program.started()
        process.used = True
        process.on_event = self._read_event
        process.more = None if more is None else self._record_added(more)
        process.send_prompt(parts, number)
        while not reader.over and not process.gone.is_set():
            process.moved.clear()
            try:
                async with asyncio.timeout(None if reader.working else _SILENCE_SECONDS + reader.waits):
                    await process.moved.wait()
            except TimeoutError:
                raise NoOutput(f"Claude Code produced no output for {_SILENCE_SECONDS:g} s") from None
        if not reader.over:
            self.exit_report = await process.exit_report()
        await self._clear()

    async def interrupt(self) -> bool:
        """Stop the turn; returns whether the process can run another one."""
        process, reader = self._process, self._reader
        if not reader.heard:
            return False  # The turn may not have started, and would start after the interrupt.
        process.more = None
        process.interrupt()
        try:
            async with asyncio.timeout(_INTERRUPT_SECONDS):
                while not reader.over and not process.gone.is_set():
                    process.moved.clear()
                    await process.moved.wait()
        except TimeoutError:
            log.warning("Claude Code did not stop its turn in time and is killed")
        await self._clear()
        return self.can_continue

    def _read_event(self, event: Mapping[str, Any]) -> None:
        self._reader.feed(event)
        if self._servers is None and self._reader.session is not None:
            # Now its MCP servers run and the model has not been called: processes started later belong to the turn.
            self._servers = self._process.program.started()

    def _record_added(self, more: More) -> More:
        async def recorded() -> str:
            try:
                added = await more()
            except BaseException:
                self._reader.record_missed()  # Some messages may be leased already.
                raise
            if added:
                self._reader.record_added()
            return added

        return recorded

    async def _clear(self) -> None:
        self._process.on_event = self._process.more = None
        await self._process.program.end_started(self._servers or frozenset())
        reap_adopted()
