"""The consumers' processes: started, killed, started again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.integration.crash import consumer
from tests.integration.crash.invariants import Entry


class Consumers:
    """One process per agent, each with a log that its successors go on with."""

    def __init__(self, logs: Path, seed: str, repeatable: Sequence[str] = ()) -> None:
        """Requests that are refused with a code of `repeatable` are repeated."""
        self._repeatable = repeatable
        self._logs = logs
        self._seed = seed
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets: dict[str, Path] = {}
        self._lives = 0

    def start(self, agent: str, core_socket: Path) -> None:
        """Let a process speak for an agent that the daemon does not run itself."""
        self._sockets[agent] = core_socket
        self._lives += 1
        command = [sys.executable, "-I", consumer.__file__, str(core_socket), str(self._log(agent))]
        self._processes[agent] = subprocess.Popen([*command, f"{self._seed}-{self._lives}", *self._repeatable])

    async def kill(self, agent: str) -> None:
        """SIGKILL, and start the next one."""
        process = self._processes[agent]
        process.kill()
        await asyncio.to_thread(process.wait)
        self.start(agent, self._sockets[agent])

    async def stop(self) -> None:
        """Ask all to end; they acknowledge what they hold."""
        for process in self._processes.values():
            process.terminate()
        for agent, process in self._processes.items():
            assert await asyncio.to_thread(process.wait, 30) == 0, f"the consumer of {agent} failed"

    def close(self) -> None:
        """End those that are left."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def logs(self) -> dict[str, list[Entry]]:
        """What they saw, by agent."""
        return {
            agent: [json.loads(line) for line in self._log(agent).read_text().splitlines()] for agent in self._processes
        }

    def _log(self, agent: str) -> Path:
        return self._logs / f"{agent}.jsonl"
