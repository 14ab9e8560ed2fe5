"""Directories, devices and secrets of the host in containers with users of their own."""

from __future__ import annotations

import base64
import stat

import pytest

from tests.system.host_hive import (
    HAS_CONTROLLERS,
    OFFERED,
    RUN,
    STATE,
    HostHive,
    container,
    inside,
    program,
    service,
    unit,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

VALUE = "npm_5ecretValueOfTheTest"


async def test_offered_directories_and_devices(hive: HostHive) -> None:
    """A container's root is the owner of an offered directory, writes only where it may, and gets its devices only."""
    for name, owner in (("data", 0), ("drop", 4321)):
        place = OFFERED / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "file").write_text(name)
        await program("chown", "-R", f"{owner}:{owner}", str(place))
    await hive.spawn_with("taker", binds=["data", "drop"], devices=["fuse"])
    assert inside("taker", "cat", "/binds/data/file", "/binds/drop/file") == "datadrop"
    assert inside("taker", "stat", "-c", "%u", "/binds/drop/file").strip() == "0"
    refused = inside("taker", "sh", "-c", "touch /binds/data/new 2>&1; true")
    assert "Read-only file system" in refused
    inside("taker", "sh", "-c", "echo inside >/binds/drop/new")
    assert (OFFERED / "drop" / "new").stat().st_uid == 4321
    assert "/dev/fuse rwm" in unit(service("taker"), "DeviceAllow")
    assert "character special" in inside("taker", "stat", "-c", "%F", "/dev/fuse")
    assert inside("taker", "sh", "-c", "exec 3<>/dev/fuse && echo opened").strip() == "opened"
    other = await hive.spawn_with("other")
    assert other["name"] == "other"
    assert inside("other", "sh", "-c", "ls -d /binds 2>/dev/null; true") == ""
    if HAS_CONTROLLERS:  # Else systemd cannot keep devices from a container, and nspawn makes this one since 257.
        assert inside("other", "sh", "-c", "ls /dev/fuse 2>/dev/null; true") == ""
    assert "/dev/fuse" not in unit(service("other"), "DeviceAllow")


async def test_a_secret_is_read_inside_only(hive: HostHive) -> None:
    """A running container's root reads its secret at once, cannot change it, and loses it; a restart keeps it."""
    await hive.spawn_with("keeper")
    body = {"name": "NPM_TOKEN", "value": base64.b64encode(VALUE.encode()).decode()}
    await hive.ask("POST", "/v1/agents/keeper/secrets", body)
    path = "/run/hive/secrets/NPM_TOKEN"
    assert inside("keeper", "cat", path) == VALUE
    assert inside("keeper", "stat", "-c", "%a %u", path).strip() == "400 0"
    assert "Read-only file system" in inside("keeper", "sh", "-c", f"rm -f {path} 2>&1; true")
    file = RUN / "secrets" / "keeper" / "NPM_TOKEN"
    assert (file.stat().st_uid, stat.S_IMODE(file.parent.stat().st_mode)) == (0, 0o700)
    [key] = (STATE / "credentials" / "keys").iterdir()
    assert key.suffix == ".sealed"
    await hive.restart()
    assert inside("keeper", "cat", path) == VALUE
    await hive.ask("POST", "/v1/agents/keeper/restart", {})
    await hive.idle("keeper")
    assert inside("keeper", "cat", path) == VALUE
    await hive.ask("POST", "/v1/agents/keeper/secrets/remove", {"name": "NPM_TOKEN"})
    assert inside("keeper", "ls", "/run/hive/secrets") == ""
    conf = f"/etc/nixos-containers/{container('keeper')}.conf"
    assert await program("grep", "-rl", VALUE, str(STATE), str(RUN), conf, check=False) == ""
