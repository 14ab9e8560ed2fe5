"""The demo: a hive of a manager and two agents, which do a small job together. Run it with `./dev demo`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import gate
import job
import login
import view
from daemon import Daemon, running
from failure import DemoFailed
from job import AGENTS, Flow, Job

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
    parser = argparse.ArgumentParser("./dev demo", description="A hive of a manager and two agents at work.")
    parser.add_argument("--once", action="store_true", help="end after the job; without a terminal it always does")
    parser.add_argument("--claude", action="store_true", help="let Claude Code do the job, with your key or login")
    parser.add_argument("--keep", action="store_true", help="keep the hive's state directory")
    return parser.parse_args()


def _demo(options: argparse.Namespace) -> None:
    access = login.find(os.environ) if options.claude else None
    view.intro(access.words if access else None)
    with running(access.passed if access else (), options.keep) as daemon:
        view.heading("Starting the daemon")
        confinement = _open(daemon)
        view.heading("Making the agents")
        for name in AGENTS:
            _spawn(daemon, name, access)
        view.heading("The job")
        asked, started = Job(job.ask(daemon)), time.monotonic()
        flow = Flow(daemon)
        job.watch(daemon, flow, asked, _MODEL_SECONDS if access else _SCRIPT_SECONDS)
        took = time.monotonic() - started
        ends = _gate(daemon, flow) if access is None else []
        view.heading("Done.")
        view.fact("time", f"{took:.1f} s for the job")
        view.fact("messages", f"{asked.messages}, each on disk before its sender went on")
        view.fact("agents", ", ".join(map(coloured_agent, AGENTS)))
        view.fact("confinement", confinement)
        for end in ends:
            view.fact("proposal", end)
        if options.keep and ends:
            view.how_to_look(gate.look_at_it(daemon.layout.applied))
        if not options.once and sys.stdout.isatty():
            view.how_to_talk(daemon.layout.host_socket, gate.look_at_it(daemon.layout.applied) if ends else [])
            _play(flow)


def _gate(daemon: Daemon, flow: Flow) -> list[str]:
    """Show how agents' configurations change; how each proposal ended, in words."""
    ends = gate.play(daemon, flow, _SCRIPT_SECONDS)
    gate.history(daemon)
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
    line = ["spawn", name, "--config-dir", os.path.relpath(_CONFIGS / name)]
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
