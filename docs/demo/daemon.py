"""The demo's own daemon: a process over a state directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import view
from failure import DemoFailed

from hive_agent.infra import processes
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.errors import HiveError
from hive_core.layout import Layout

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOG_LINES = 15
_KEPT_SETTINGS = frozenset({"HIVE_SANDBOX", "HIVE_LOG_LEVEL", "HIVE_CLAUDE"})
"""Of the user's own settings: the others belong to the user's own hive."""


FindRelay = Callable[[Path], AbstractContextManager[Mapping[str, Any]]]


class Daemon:
    """A running daemon. `client` speaks to it."""

    def __init__(self, layout: Layout, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.layout = layout
        self.client = Client(str(layout.host_socket))
        self._log = log
        self._process = process

    def wait_until_ready(self) -> dict[str, Any]:
        """The daemon's status, once it answers."""
        end = time.monotonic() + _READY_SECONDS
        while True:
            self.check()
            try:
                return self.client.get("/v1/status")
            except Failure as failure:
                if not failure.transient or time.monotonic() > end:
                    raise DemoFailed(f"the daemon does not answer: {failure.message}", tail(self._log)) from None
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Fails if the daemon has ended."""
        if self._process.poll() is not None:
            raise DemoFailed(f"the daemon has ended (exit code {self._process.returncode})", tail(self._log))

    def command(self, *arguments: str) -> None:
        """Show and carry out a command of `hive-c0re`, whose output is shown as it comes."""
        done = self._carry_out(arguments, None)
        if done.returncode != 0:
            raise DemoFailed(f"`hive-c0re {arguments[0]}` failed", done.stderr.splitlines())

    def output(self, *arguments: str) -> list[str]:
        """Show and carry out a command; returns the lines that it prints."""
        done = self._carry_out(arguments, subprocess.PIPE)
        if done.returncode != 0:
            raise DemoFailed(f"`hive-c0re {arguments[0]}` failed", done.stderr.splitlines())
        return done.stdout.splitlines()

    def refused(self, *arguments: str) -> list[str]:
        """Show and carry out a command that has to fail; returns the lines that say why."""
        done = self._carry_out(arguments, subprocess.PIPE)
        if done.returncode == 0:
            raise DemoFailed(f"`{' '.join(arguments)}` did not fail, and has to")
        return done.stderr.splitlines()

    def _carry_out(self, arguments: Sequence[str], output: int | None) -> subprocess.CompletedProcess[str]:
        """Run the command away from the terminal: Ctrl-C is for the demo alone."""
        view.command(*arguments)
        self.check()
        line = [sys.executable, "-m", "hive_core", "--socket", str(self.layout.host_socket), *arguments]
        return subprocess.run(  # noqa: S603 - our own program
            line,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def agent_log(self, name: str) -> list[str]:
        """The last lines of an agent's log."""
        return tail(self.layout.agent_log(name))

    def stop(self) -> bool:
        """Stop the daemon, and with it the agents; False if it took force. Ctrl-C meanwhile asks for force."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._process.kill())
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return self._process.returncode != -signal.SIGKILL


@contextmanager
def running(passed: Sequence[str], keep: bool, find_relay: FindRelay) -> Iterator[Daemon]:
    """A daemon whose agents get the variables `passed`; at the end nothing of it is left, but what is to be kept.

    `find_relay` gives the settings of the relay, for a directory in which it may write.
    """
    directory = Path(tempfile.mkdtemp(prefix="hive-demo-"))
    with ExitStack() as stack:
        try:
            relay = stack.enter_context(find_relay(directory))
            daemon = _start(_layout(directory), passed, relay)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        stack.enter_context(_stopping(daemon, directory, keep))
        yield daemon


@contextmanager
def _stopping(daemon: Daemon, directory: Path, keep: bool) -> Iterator[None]:
    """Stop the daemon at the end, and remove its directory unless it is to be kept."""
    try:
        yield
    finally:
        with suppress(OSError):  # The terminal may be gone.
            view.heading("Stopping the agents and the daemon.")
        by_itself = daemon.stop()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):
            view.say("All processes have ended." if by_itself else "All processes have ended, by force.")
            left = directory.exists()
            view.say(f"Everything is kept in {directory}." if left else f"{directory} is removed; nothing is left.")


def _layout(directory: Path) -> Layout:
    layout = Layout(directory, directory / "run")
    try:
        layout.check_socket_lengths()
    except HiveError as error:
        raise DemoFailed(f"{error.message}: set TMPDIR to a directory with a shorter path, as in TMPDIR=/tmp") from None
    return layout


def _start(layout: Layout, passed: Sequence[str], relay: Mapping[str, Any]) -> Daemon:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("HIVE_") or key in _KEPT_SETTINGS
    }
    # Where nothing can seal an agent, the demo shows the rest; the daemon says of each agent that it is not sealed.
    environment["HIVE_UNSEALED"] = "true"
    environment["HIVE_RELAY"] = json.dumps(relay)
    if passed:
        environment["HIVE_PASS_ENVIRONMENT"] = ",".join(passed)
    # The settings of a hive that this machine may have in /etc are not for the demo.
    line = [sys.executable, "-m", "hive_core", "serve", "--config", os.devnull]
    line += ["--state-dir", str(layout.state_dir), "--run-dir", str(layout.run_dir)]
    log = layout.state_dir / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own program
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: the terminal's Ctrl-C is for the demo, which then stops the daemon.
            start_new_session=True,
            preexec_fn=processes.die_with_parent,  # noqa: PLW1509 - there are no threads yet
        )
    return Daemon(layout, log, process)


def tail(path: Path) -> list[str]:
    """The last lines of a log; none if there is none."""
    try:
        return path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []
