"""The base class of the readers of agent CLIs that are started for one turn. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hive_agent.backends.base import Failed, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.transcript import Entry, Notice, ToolCall, ToolResult, TranscriptText
from hive_agent.infra import json_text
from hive_agent.infra.json_text import LONGEST_TEXT, truncate, truncate_nested
from hive_agent.infra.processes import exit_text

SHOWN_RESULT = 20_000
"""Characters of a tool's result, and of each text in a tool's input, in the transcript."""
_KEPT_STDERR = 4_000


@dataclass
class OutputReader(ABC):
    """Reads lines of output and returns entries of the transcript. Unknown events are skipped."""

    session: str = ""
    """The CLI's id of the conversation."""
    lost: bool = False
    """The conversation to continue does not exist."""
    settled: bool = False
    """Probably no more output will come."""
    verdict: TurnOutcome | None = None
    """The outcome of the turn; once it is set, the program is killed."""
    stderr: str = field(default="", repr=False)
    """The end of the program's stderr."""

    def feed(self, line: bytes) -> list[Entry]:
        """Read one line of output."""
        event = json_text.parse_object(line)
        return [] if event is None else [_bounded(entry) for entry in self.read_event(event)]

    @abstractmethod
    def read_event(self, event: Mapping[str, Any]) -> list[Entry]:
        """Read one event."""

    def feed_stderr(self, line: str) -> list[Entry]:
        """Read one line of stderr."""
        self.stderr = f"{self.stderr}{line}\n"[-_KEPT_STDERR:]
        return [_bounded(entry) for entry in self.read_stderr_line(line)]

    def read_stderr_line(self, line: str) -> list[Entry]:
        """Find known messages in a line of stderr."""
        return []

    @abstractmethod
    def outcome(self, exit_code: int | None) -> TurnOutcome:
        """The outcome of a turn without verdict. `exit_code` is None if the program had to be killed."""

    def add_sums(self, known: StoredSession) -> StoredSession:
        """Update the totals of `known`, for a CLI that reports only totals of a conversation."""
        return known

    def crash(self, program: str, exit_code: int | None) -> Failed:
        """The outcome of a program that exited without a result."""
        how = "was still running" if exit_code is None else exit_text(exit_code)
        errors = f": {self.stderr.strip()}" if self.stderr.strip() else ""
        return Failed("crashed", f"{program} ended ({how}) without a result{errors}")


def tool_result(call: str, text: str, *, is_error: bool) -> ToolResult:
    """The result of the tool call `call`, truncated for the transcript."""
    return ToolResult(call, text[:SHOWN_RESULT], is_error, len(text))


def _bounded(entry: Entry) -> Entry:
    """Limit the length of texts and the depth of a tool's input, which a model can make arbitrarily large."""
    match entry:
        case ToolCall():
            return replace(entry, input=truncate_nested(entry.input, SHOWN_RESULT))
        case TranscriptText() | Notice():
            return replace(entry, text=truncate(entry.text, LONGEST_TEXT))
    return entry
