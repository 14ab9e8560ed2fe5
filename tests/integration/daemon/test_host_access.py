"""Directories of the host in real sandboxes of the local runtime, as the settings offer them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, Json, running

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory whose parents nobody else can write."""
    place = Path(tempfile.mkdtemp(prefix=".hive-offered-", dir=Path.home())).resolve()
    for name in ("data", "drop"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
    yield place
    shutil.rmtree(place)


def offering(home: Path, shared: Path, sandbox: str = "bubblewrap") -> Daemon:
    binds = {"data": {"path": f"{shared}/data"}, "drop": {"path": f"{shared}/drop", "writable": True}}
    return Daemon(home, settings={"sandbox": sandbox, "binds": json.dumps(binds), "devices": "fuse"})


def variables_of(pid: int) -> list[bytes]:
    """The environment of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@needs_bubblewrap
async def test_agents_see_what_they_were_given(hive_home: Path, shared: Path) -> None:
    """An agent sees the directories that its agent.toml names, read-only or writable, and no other agent does."""
    async with running(offering(hive_home, shared)) as daemon:
        for name, binds in (("ada", ["data", "drop"]), ("bob", ["data"])):
            body = {"name": name, "config": {"backend": "scripted", "binds": binds}}
            await daemon.ask("POST", "/v1/agents", body)
        ada, bob = [await daemon.agent_until(name, lambda one: one["state"] == "idle") for name in ("ada", "bob")]
        roots = [Path(f"/proc/{agent['pid']}/root/binds") for agent in (ada, bob)]
        assert [sorted(path.name for path in root.iterdir()) for root in roots] == [["data", "drop"], ["data"]]
        with pytest.raises(OSError, match="Read-only file system"):
            (roots[0] / "data" / "new").write_text("x")
        (roots[0] / "drop" / "new").write_text("made inside")
        assert (shared / "drop" / "new").read_text() == "made inside"
        environment = variables_of(ada["pid"])
        assert {b"HIVE_BIND_DATA=/binds/data", b"HIVE_BIND_DROP=/binds/drop"} <= set(environment)
        shown = await daemon.ask("GET", "/v1/proposals/ada/0")
        assert f"binds: drop shows '{shared}/drop' of the host, writable, as /binds/drop" in shown["settings"]


async def test_what_is_not_offered_is_refused(hive_home: Path, shared: Path) -> None:
    """A spawn that asks for more than is offered is refused, and a start while an offered directory is no safe one."""
    async with running(offering(hive_home, shared, "none")) as daemon:
        for asked in ({"binds": ["etc"]}, {"devices": ["kvm"]}):
            body = {"name": "ada", "config": {"backend": "scripted", **asked}}
            status, answer = await daemon.request("POST", "/v1/agents", body)
            assert (status, answer["error"]["code"]) == (409, "not_offered")
        config: Json = {"backend": "scripted", "binds": ["data"]}
        await daemon.ask("POST", "/v1/agents", {"name": "ada", "start": False, "config": config})
        (shared / "data").rename(shared / "moved")
        for why, make in (("does not exist", None), ("symbolic link", "moved")):
            if make is not None:
                (shared / "data").symlink_to(shared / make)
            status, answer = await daemon.request("POST", "/v1/agents/ada/start")
            assert (status, answer["error"]["code"]) == (409, "bind_not_usable")
            assert why in answer["error"]["message"]
        (shared / "data").unlink()
        (shared / "moved").rename(shared / "data")
        await daemon.ask("POST", "/v1/agents/ada/start")
        ada = await daemon.agent_until("ada", lambda one: one["state"] == "idle")
        environment = variables_of(ada["pid"])
        assert f"HIVE_BIND_DATA={shared}/data".encode() in environment
