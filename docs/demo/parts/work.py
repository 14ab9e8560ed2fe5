"""The demo's first part: a repository with a failing test, mended by an agent, checked, reviewed and landed."""

from __future__ import annotations

import shutil
from pathlib import Path

import job
import shell
import view
from daemon import Daemon
from failure import DemoFailed
from job import Flow, Job

REPOSITORY = "shop"
CHECK = "tests: python3 -m unittest"
WISH = "The total of an order leaves its first item out, as test_prices.py shows. Please mend prices.py."
_FILES = Path(__file__).parent.parent / "repository"
_AUTHOR = ("-c", "user.name=You", "-c", "user.email=you@example.org", "-c", "commit.gpgsign=false")


def make_repository(directory: Path) -> None:
    """Make the repository that the operator brings, with its failing test."""
    directory.mkdir()
    for file in sorted(_FILES.glob("*.py")):
        shutil.copyfile(file, directory / file.name)
    git = ("git", "-C", str(directory))
    shell.run("git", "init", "--quiet", "--initial-branch=main", str(directory))
    shell.run(*git, "add", ".")
    shell.run(*git, *_AUTHOR, "commit", "--quiet", "--no-verify", "--message=Prices of orders")


def register(daemon: Daemon, directory: Path) -> None:
    """Register the repository with the hive, with the check that its work has to pass."""
    daemon.command("repo", "add", REPOSITORY, str(directory), "--check", CHECK, "--review", "manager")


def play(daemon: Daemon, flow: Flow, limit: float) -> str:
    """Show how the work is done; returns the name of the work that has landed."""
    job.watch(daemon, flow, Job(job.ask(daemon, "ada", WISH), "ada", REPOSITORY), limit)
    found = daemon.client.get("/v1/work", {"repo": REPOSITORY, "state": "ended"})["work"]
    landed = next((each for each in found if each["state"] == "deployed"), None)
    if landed is None:
        raise DemoFailed("no work has landed", daemon.agent_log("ada"))
    return f"{REPOSITORY}/{landed['number']}"


def result(daemon: Daemon, name: str) -> None:
    """Show the result as the operator looks at it: the work, its diff, and the branch."""
    view.heading("The result")
    view.log(daemon.output("work", "list", "--state", "all"))
    view.log(daemon.output("work", "diff", name))
    view.log(shell.shown(*branch(daemon)))


def branch(daemon: Daemon) -> tuple[str, ...]:
    """Return the command of git that shows the branch in the hive's mirror."""
    mirror = daemon.layout.state_dir / "repos" / f"{REPOSITORY}.git"
    return ("git", "-C", str(mirror), "log", "--oneline", "--decorate=short", "main")
