"""The demo: an agent mends a repository, and agents change themselves. Run it with `./dev demo`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import login
import vendor
import view
from daemon import Daemon, running
from failure import DemoFailed
from internet.enter import Internet, enter
from job import AGENTS, Flow
from parts import gate, ledger, network, seal, work

from hive_core.cli.errors import Failure
from hive_core.cli.output import coloured_agent, coloured_state

_CONFIGS = Path(__file__).parent / "agents"
_SCRIPT_SECONDS = 60.0
_MODEL_SECONDS = 900.0
_INTERRUPTED = 130
_PROVIDER = "anthropic"


def main() -> int:
    """The exit code: 0 after the job was done, 1 if it failed, 130 if it was interrupted before."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # Under nohup(1) it is ignored, and stays so.
            signal.signal(number, signal.default_int_handler)
    # Claude Code needs the real internet.
    internet = Internet() if options.claude else enter()
    try:
        _demo(options, internet)
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
    finally:
        internet.leave()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("./dev demo", description="An agent mends a repository; agents change themselves.")
    parser.add_argument("--once", action="store_true", help="end by itself; without a terminal it always does")
    parser.add_argument("--claude", action="store_true", help="let Claude Code do the work, with your key or login")
    parser.add_argument("--keep", action="store_true", help="keep the hive's state directory")
    return parser.parse_args()


def _demo(options: argparse.Namespace, internet: Internet) -> None:
    access = login.find(os.environ) if options.claude else None
    limit = _MODEL_SECONDS if access else _SCRIPT_SECONDS
    view.intro(access.words if access else None)
    with running(access.passed if access else (), options.keep, partial(_relay_of, access)) as daemon:
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
        ends = _play_rest(daemon, flow, confinement, internet) if access is None else _costs(daemon, access)
        view.heading("Done.")
        view.fact("work", f"{landed} landed, {took:.1f} s after it was asked for")
        for name, end in ends:
            view.fact(name, end)
        view.fact("agents", ", ".join(map(coloured_agent, names)))
        view.fact("confinement", confinement)
        view.how_to_go_on()
        look = " ".join(work.branch(daemon))
        if options.keep:
            view.how_to_look(look)
        if not options.once and sys.stdout.isatty():
            view.how_to_talk(daemon.layout.host_socket, look, scripted=access is None)
            _play(flow)


def _play_rest(daemon: Daemon, flow: Flow, confinement: str, internet: Internet) -> list[tuple[str, str]]:
    """Show how agents' configurations change, and what sealed agents reach; what came of each part, in words."""
    ends = [("proposal", gate.play(daemon, flow, _SCRIPT_SECONDS, act)) for act in (gate.RESTRAINED, gate.DENIED)]
    if not confinement.startswith("bubblewrap"):
        view.say("\nWithout bubblewrap nothing seals an agent: that part of the demo is left out.")
        return ends
    seal.play(daemon)
    return [
        *ends,
        ("network", network.play(daemon, flow, _SCRIPT_SECONDS, internet)),
        ("ledger", ledger.play(daemon)),
    ]


def _relay_of(access: login.Login | None, directory: Path) -> AbstractContextManager[Mapping[str, Any]]:
    """Return the settings of the relay: for the stand-in, for the user's key, or none with another login."""
    if access is None:
        return vendor.serving(directory)
    return nullcontext(vendor.settings(directory, _PROVIDER, access.key, access.base_url) if access.key else {})


def _costs(daemon: Daemon, access: login.Login) -> list[tuple[str, str]]:
    """Show what the model has cost, if its calls were made by the relay."""
    if not access.key:
        return []
    view.heading("The ledger")
    view.log(daemon.output("usage", "--by", "agent"))
    cost = sum(each["cost_today"] or 0 for each in daemon.client.get("/v1/agents")["agents"])
    return [("ledger", f"${cost:.4f} for the calls of the model")]


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
    if access is None:
        daemon.command("spawn", name, "--config-dir", os.path.relpath(_CONFIGS / name))
        return
    files = daemon.layout.state_dir / "claude" / name
    shutil.copytree(_CONFIGS / ("claude" if name == "ada" else name), files)
    # Without a key for the relay, the agent's program has to reach the model by itself.
    _add_setting(files / "agent.toml", f'provider = "{_PROVIDER}"' if access.key else 'network = "host"')
    line = ["spawn", name, "--config-dir", str(files), "--backend", "claude"]
    if access.file is None:
        daemon.command(*line)
        return
    daemon.command(*line, "--no-start")
    access.give(daemon.layout.agent(name).claude)
    daemon.command("start", name)


def _add_setting(file: Path, line: str) -> None:
    file.write_text(f"{line}\n{file.read_text()}")


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
