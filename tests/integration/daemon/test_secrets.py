"""Secrets of agents with a real daemon and sandbox: where the values are, and where not."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hive_core.agents.grants.secret_files import SecretFiles
from hive_core.infra.storage.files import filesystem_type
from hive_core.layout import Layout
from tests.helpers.real_daemon import Daemon, Json, running

VALUE = "npm_5ecretValueOfTheTest"
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def cli(daemon: Daemon, *arguments: str, stdin: str = "", code: int = 0) -> str:
    """What `hive-c0re` prints, on stdout and stderr."""
    line = [sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), *arguments]
    done = subprocess.run(
        line, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def inside(agent: Json) -> Path:
    """The secrets as the running agent sees them."""
    return Path(f"/proc/{agent['pid']}/root/run/hive/secrets")


def words_of(pid: int) -> list[bytes]:
    """The arguments and the environment of a process, which others may read."""
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]


def places_with(value: str, *tops: Path) -> list[str]:
    """The files below some directories, other than those in memory, that hold a value."""
    found = []
    for top in tops:
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                if path.is_file() and not path.is_symlink() and value.encode() in path.read_bytes():
                    found.append(str(path))
    return found


@needs_bubblewrap
async def test_life_of_a_secret(hive_home: Path) -> None:
    """A running agent sees a secret at once, and as long as it has it; the value is on no disk and in no log."""
    async with running(Daemon(hive_home, settings={"sandbox": "bubblewrap"})) as daemon:
        top = SecretFiles(Layout(daemon.state_dir, daemon.run_dir)).top
        assert top is not None
        await daemon.spawn("ada")
        ada = await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        assert "ada has NPM_TOKEN" in cli(daemon, "secret", "set", "ada", "NPM_TOKEN", stdin=f"{VALUE}\n")
        shown = inside(ada) / "NPM_TOKEN"
        assert shown.read_text() == VALUE
        assert stat.S_IMODE(shown.stat().st_mode) == 0o400
        assert shown.stat().st_dev == top.stat().st_dev
        assert filesystem_type(top) == "tmpfs"
        with pytest.raises(OSError, match="Read-only file system"):
            (inside(ada) / "other").write_text("x")
        cli(daemon, "secret", "set", "ada", "NPM_TOKEN", stdin=f"{VALUE}2")
        assert shown.read_text() == f"{VALUE}2"
        listed = cli(daemon, "secret", "list", "ada")
        assert "NPM_TOKEN" in listed
        assert VALUE not in listed

        # The next daemon shows it to the next run of the agent.
        await daemon.kill()
        await daemon.start()
        ada = await daemon.agent_until("ada", lambda agent: agent["state"] == "idle")
        shown = inside(ada) / "NPM_TOKEN"
        assert shown.read_text() == f"{VALUE}2"
        assert places_with(VALUE, daemon.state_dir, daemon.run_dir, hive_home) == []
        assert not any(VALUE.encode() in words for pid in (daemon.pid, ada["pid"]) for words in words_of(pid))

        cli(daemon, "secret", "remove", "ada", "NPM_TOKEN")
        assert list(inside(ada).iterdir()) == []
        assert "ada has no secret NPM_TOKEN" in cli(daemon, "secret", "remove", "ada", "NPM_TOKEN", code=1)
        rows = (await daemon.ask("GET", "/v1/audit?limit=100"))["rows"]
        acts = [(row["action"], row["subject"], row["detail"]) for row in rows if row["action"].startswith("secret")]
        assert sorted(acts, key=str) == [
            ("secret_remove", "ada", {"name": "NPM_TOKEN"}),
            *[("secret_set", "ada", {"name": "NPM_TOKEN"})] * 2,
        ]
        assert top.is_dir()
        await daemon.terminate()
        assert not top.exists()


async def test_destroy_keeps_and_purge_removes(daemon: Daemon) -> None:
    """A destroyed agent's secrets wait for the next of its name, unless they are removed; a purge removes them."""
    stored = daemon.state_dir / "credentials" / "values"
    body = {"name": "NPM_TOKEN", "value": base64.b64encode(VALUE.encode()).decode()}
    for purge in (False, True):
        await daemon.spawn("ada", start=False)
        await daemon.ask("POST", "/v1/agents/ada/secrets", body)
        await daemon.ask("POST", "/v1/agents/ada/destroy", {"purge": purge})
        left = [path.name for path in stored.iterdir()]
        assert left == ([] if purge else ["secret.ada.NPM_TOKEN"])
        status, answer = await daemon.request("GET", "/v1/agents/ada/secrets")
        assert (status, [each["name"] for each in answer.get("secrets", [])]) == (
            (404, []) if purge else (200, ["NPM_TOKEN"])
        )


@pytest.mark.parametrize(
    ("name", "value"), [("HIVE_X", "eA=="), ("PATH", "eA=="), ("a-b", "eA=="), ("A", ""), ("A", "AA=="), ("A", VALUE)]
)
async def test_refused_values_are_not_repeated(daemon: Daemon, name: str, value: str) -> None:
    """A secret with a bad name or value is refused, and neither the answer nor the log repeats the value."""
    await daemon.spawn("ada", start=False)
    status, answer = await daemon.request("POST", "/v1/agents/ada/secrets", {"name": name, "value": value})
    assert (status, answer["error"]["code"]) == (400, "invalid_request")
    assert VALUE not in str(answer)
    assert VALUE not in daemon.log_text()


async def test_agents_cannot_reach_secrets_by_the_api(daemon: Daemon) -> None:
    """The endpoints of secrets are on the operator's socket only."""
    await daemon.spawn("ada", start=False)
    status, answer = await daemon.request("GET", "/v1/agents/ada/secrets", agent="ada")
    assert (status, answer["error"]["code"]) == (404, "not_found")
