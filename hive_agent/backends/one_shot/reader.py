"""What an agent CLI that is started for one turn tells while it works: the base of each CLI's reader. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hive_agent.backends.base import Failed, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.transcript import Entry, Notice, ToolCall, ToolResult, TranscriptText
from hive_agent.infra import json_text
from hive_agent.infra.json_text import LONGEST_TEXT, cut, shortened

SHOWN_RESULT = 20_000
"""Characters of a tool's result, and of each text in a tool's input, that go into the transcript."""
_KEPT_COMPLAINTS = 4_000


@dataclass
class OutputReader(ABC):
    """Fed with lines; returns the transcript's entries that they make. Unknown events are skipped."""

    session: str = ""
    """The CLI's name for the conversation."""
    lost: bool = False
    """The conversation that was to be gone on with is not there."""
    settled: bool = False
    """It looks as if nothing more will come."""
    verdict: TurnOutcome | None = None
    """How the turn ended; once set, the program is not waited for."""
    complaints: str = field(default="", repr=False)
    """The end of what the program wrote on stderr."""

    def feed(self, line: bytes) -> list[Entry]:
        """Take one line of output."""
        event = json_text.parsed(line)
        return [] if event is None else [_bounded(entry) for entry in self.take(event)]

    @abstractmethod
    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        """Take one event."""

    def complain(self, line: str) -> list[Entry]:
        """Take one line of stderr."""
        self.complaints = f"{self.complaints}{line}\n"[-_KEPT_COMPLAINTS:]
        return [_bounded(entry) for entry in self.take_complaint(line)]

    def take_complaint(self, line: str) -> list[Entry]:
        """What a line of stderr tells; the base has kept it already."""
        return []

    @abstractmethod
    def outcome(self, exit_code: int | None) -> TurnOutcome:
        """How the turn ended, when there is no verdict. `exit_code` is None if the program had to be ended."""

    def sums(self, known: StoredSession) -> StoredSession:
        """`known` with what this turn added to its sums, for a CLI that tells only such."""
        return known

    def crash(self, program: str, exit_code: int | None) -> Failed:
        """The program ended without a result."""
        how = "was still running" if exit_code is None else f"exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            how = f"signal {-exit_code}"
        last = f": {self.complaints.strip()}" if self.complaints.strip() else ""
        return Failed("crashed", f"{program} ended ({how}) without a result{last}")


def tool_result(call: str, text: str, *, is_error: bool) -> ToolResult:
    """The result of the call `call`, cut to what a transcript shows."""
    return ToolResult(call, text[:SHOWN_RESULT], is_error, len(text))


def _bounded(entry: Entry) -> Entry:
    """The entry without what a model can make endless: long texts, and a tool's input nested too deeply to be shown."""
    match entry:
        case ToolCall():
            return replace(entry, input=shortened(entry.input, SHOWN_RESULT))
        case TranscriptText() | Notice():
            return replace(entry, text=cut(entry.text, LONGEST_TEXT))
    return entry
