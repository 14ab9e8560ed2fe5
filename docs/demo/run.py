"""The demo: an agent mends a repository, and agents change themselves. Run it with `./dev demo`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import gate
import login
import seal
import view
import work
from daemon import Daemon, running
from failure import DemoFailed
from job import AGENTS, Flow

from hive_core.cli.errors import Failure
from hive_core.cli.output import coloured_agent, coloured_state

_CONFIGS = Path(__file__).parent / "agents"
_SCRIPT_SECONDS = 60.0
_MODEL_SECONDS = 900.0
_INTERRUPTED = 130


def main() -> int:
    """The exit code: 0 after the job was done, 1 if it failed, 130 if it was interrupted before."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # Under nohup(1) it is ignored, and stays so.
            signal.signal(number, signal.default_int_handler)
    try:
        _demo(options)
    except (DemoFailed, Failure) as failed:
        if isinstance(failed, DemoFailed) and failed.log:
            view.say("\nWhat was said last:")
            view.log(failed.log)
        view.say(f"\n{coloured_state('failed', 'The demo failed:')} {failed}")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # Nobody reads any longer (`| head`), so there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("./dev demo", description="An agent mends a repository; agents change themselves.")
    parser.add_argument("--once", action="store_true", help="end by itself; without a terminal it always does")
    parser.add_argument("--claude", action="store_true", help="let Claude Code do the work, with your key or login")
    parser.add_argument("--keep", action="store_true", help="keep the hive's state directory")
    return parser.parse_args()


def _demo(options: argparse.Namespace) -> None:
    access = login.find(os.environ) if options.claude else None
    limit = _MODEL_SECONDS if access else _SCRIPT_SECONDS
    view.intro(access.words if access else None)
    with running(access.passed if access else (), options.keep) as daemon:
        view.heading("Starting the daemon")
        confinement = _open(daemon)
        view.heading("A repository with a failing test, and the agents")
        work.make_repository(daemon.layout.state_dir / work.REPOSITORY)
        work.register(daemon, daemon.layout.state_dir / work.REPOSITORY)
        names = AGENTS if access is None else AGENTS[:2]
        for name in names:
            _spawn(daemon, name, access)
        view.heading("The work")
        started = time.monotonic()
        flow = Flow(daemon)
        landed = work.play(daemon, flow, limit)
        took = time.monotonic() - started
        work.result(daemon, landed)
        ends = _gate_and_seal(daemon, flow, confinement) if access is None else []
        view.heading("Done.")
        view.fact("work", f"{landed} landed, {took:.1f} s after it was asked for")
        for end in ends:
            view.fact("proposal", end)
        view.fact("agents", ", ".join(map(coloured_agent, names)))
        view.fact("confinement", confinement)
        view.how_to_go_on()
        look = " ".join(work.branch(daemon))
        if options.keep:
            view.how_to_look(look)
        if not options.once and sys.stdout.isatty():
            view.how_to_talk(daemon.layout.host_socket, look, scripted=access is None)
            _play(flow)


def _gate_and_seal(daemon: Daemon, flow: Flow, confinement: str) -> list[str]:
    """Show how agents' configurations change, and what a sealed agent cannot do; how each proposal ended, in words."""
    if not confinement.startswith("bubblewrap"):
        view.say("\nWithout bubblewrap nothing seals an agent: that part of the demo is left out.")
        return [gate.play(daemon, flow, _SCRIPT_SECONDS, gate.DENIED)]
    ends = [gate.play(daemon, flow, _SCRIPT_SECONDS, act) for act in (gate.SEALED, gate.DENIED)]
    seal.play(daemon)
    return ends


def _open(daemon: Daemon) -> str:
    """Wait for the daemon and tell about it; how agents are confined, in words."""
    started = time.monotonic()
    status = daemon.wait_until_ready()
    confinement = str(status["confinement"])
    if confinement == "bubblewrap":
        confinement = "bubblewrap: each agent is in a sandbox of its own"
    view.fact("ready", f"after {time.monotonic() - started:.1f} s, process {status['pid']}")
    view.fact("state", f"{daemon.layout.state_dir}")
    view.fact("confinement", confinement)
    return confinement


def _spawn(daemon: Daemon, name: str, access: login.Login | None) -> None:
    """Make an agent from its files, and start it."""
    files = _CONFIGS / ("claude" if access is not None and name == "ada" else name)
    line = ["spawn", name, "--config-dir", os.path.relpath(files)]
    if access is None:
        daemon.command(*line)
        return
    line += ["--backend", "claude"]
    if access.file is None:
        daemon.command(*line)
        return
    daemon.command(*line, "--no-start")
    access.give(daemon.layout.agent(name).claude)
    daemon.command("start", name)


def _play(flow: Flow) -> None:
    """Show what goes on until Ctrl-C."""
    try:
        for event in flow:
            if event is not None:
                view.event(event)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
