"""An MCP server whose results are never longer than an agent CLI passes on to its model."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult, TextContent

MOST_BYTES = 32_000
"""Most bytes in the result of a tool, in UTF-8. Agent CLIs cut longer ones, some of them without a word: opencode above
50 KiB or 2,000 lines, gemini above 40,000 characters, Claude Code above 25,000 tokens, codex above its
`tool_output_token_limit`."""
MOST_LINES = 1_500
_KEPT_FILES = 20


class BoundedServer(MCPServer[None]):
    """Cuts results that are too long, and says in them where the whole is: in a file of the directory `results`."""

    def __init__(self, name: str, *, version: str, results: Path) -> None:
        super().__init__(name, version=version, log_level="WARNING")
        self._results = results

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; its result or error is cut if it is too long."""
        try:
            result = await super().call_tool(name, arguments, context)
        except ToolError as error:
            if (cut := fit(str(error))) is None:
                raise
            raise ToolError(f"{cut.text}\n[{cut.size}]") from None
        if isinstance(result, CallToolResult):
            result.content = [
                self._fitting(name, block) if isinstance(block, TextContent) else block for block in result.content
            ]
        return result

    def _fitting(self, tool: str, block: TextContent) -> TextContent:
        cut = fit(block.text)
        if cut is None:
            return block
        where = self._keep(tool, block.text)
        return TextContent(type="text", text=f"[{cut.size}; {where}]\n{cut.text}")

    def _keep(self, tool: str, text: str) -> str:
        """Write a whole result to a file, of which the last ones are kept; returns a description of where it is."""
        path = self._results / f"{tool}-{uuid.uuid4().hex[:12]}.txt"
        try:
            self._results.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", errors="replace") as file:
                file.write(text)
            files = sorted(self._results.glob("*.txt"), key=lambda file: file.lstat().st_mtime_ns)
            for old in files[:-_KEPT_FILES]:
                with contextlib.suppress(OSError):
                    old.unlink()
        except OSError as error:
            return f"the rest is lost, as {path} cannot be written: {error.strerror}"
        return f"the whole is in {path}"


@dataclass(frozen=True)
class CutText:
    """The beginning of a text, and a description of its size."""

    text: str
    size: str


def fit(text: str) -> CutText | None:
    """Cut a text to the length of a result; None if it fits."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= MOST_BYTES and text.count("\n") < MOST_LINES:
        return None
    # Room for the line that describes the cut.
    beginning = encoded[: MOST_BYTES - 500].decode(errors="ignore")
    shown = "\n".join(beginning.split("\n")[: MOST_LINES - 1])
    return CutText(shown, f"only the first {len(shown)} of {len(text)} characters are here")
