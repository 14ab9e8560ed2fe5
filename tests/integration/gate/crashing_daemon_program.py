"""The daemon's program for tests: it dies by SIGKILL at a milestone of the gate, and is then started again at once.

Runs in front of the daemon's own command line. The file that DIE_AT names holds how many milestones are still to be
passed, the last of them not alive; without the file nobody dies. What was reached is appended to the file beside it.
The daemon is forked from a process that has imported everything, so that a life begins in a fraction of a second.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hive_agent.infra import processes
from hive_core import daemon  # noqa: F401 - imported before the fork
from hive_core.cli import PROGRAM, main
from hive_core.gate.records import transitions

_lock = threading.Lock()


def trace_of(die_at: Path) -> Path:
    """Where the names of the milestones at which somebody died are kept."""
    return die_at.with_suffix(".trace")


def _reached(name: str) -> None:
    """Takes the place of `transitions.crash_point`."""
    place = Path(os.environ["DIE_AT"])
    with _lock:
        try:
            left = int(place.read_text()) - 1
        except FileNotFoundError:
            return
        if left > 0:
            place.write_text(str(left))
            return
        with trace_of(place).open("a") as trace:
            trace.write(f"{name}\n")
        place.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _live(arguments: list[str], parent: int, become_mortal: Callable[[], None]) -> None:
    """One life of the daemon, which is not longer than its parent's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    processes.die_with_parent()
    if os.getppid() == parent:
        become_mortal()
        main(arguments, prog_name=PROGRAM)


def live_again_and_again(become_mortal: Callable[[], None]) -> int:
    """Run the daemon of the command line, and a new one after each that was killed; the exit code of the last.

    `become_mortal` is called in each before it starts.
    """
    arguments = sys.argv[sys.argv.index("hive_core") + 1 :]
    parent = os.getpid()
    while True:
        child = os.fork()
        if child == 0:
            _live(arguments, parent, become_mortal)
            os._exit(1)
        signal.signal(signal.SIGTERM, lambda number, _, child=child: os.kill(child, number))  # type: ignore[misc]
        _, status = os.waitpid(child, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return os.waitstatus_to_exitcode(status)


def become_mortal() -> None:
    """Let the process die at the milestone that is asked for."""
    transitions.crash_point = _reached


if __name__ == "__main__":
    sys.exit(live_again_and_again(become_mortal))
