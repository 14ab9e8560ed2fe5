"""How a build's unit is followed and how its end is told, with stand-ins for systemd's programs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.unit import executor
from hive_core.runtimes.nixos.build.unit.confinement import BuildLimits
from hive_core.runtimes.nixos.build.unit.executor import execute

UNIT = "hive-build-ada-1.service"
BOUNDS = BuildLimits("2G", 100, 60)
ERROR = """@nix {"action":"msg","level":0,"msg":"error: undefined variable 'y'","raw_msg":"undefined variable 'y'"}"""
BUILDER_LINE = '@nix {"action":"result","id":1,"type":101,"fields":["I am systemd"]}'


class FakeSystemctl:
    """A `systemctl` on the PATH that writes down what it is asked, and shows what it is told to."""

    def __init__(self, directory: Path) -> None:
        self._asked = directory / "asked"
        self._shown = directory / "shown"
        program = directory / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$*" >>{self._asked}\n[ "$1" != show ] || cat {self._shown}\n')
        program.chmod(0o755)

    def show(self, **properties: object) -> None:
        self._shown.write_text("".join(f"{name}={text}\n" for name, text in properties.items()))

    @property
    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystemctl:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return FakeSystemctl(tmp_path)


async def run(script: str, said: list[str] | None = None) -> None:
    await execute(UNIT, ["sh", "-c", script], BOUNDS, (said if said is not None else []).append)


async def test_a_build_that_ends_well_is_followed(systemctl: FakeSystemctl) -> None:
    """Output and standard error are passed on to the last line, also one without an end."""
    said: list[str] = []
    await run("echo one; echo two >&2; printf three", said)
    assert said == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": 1}, "error: undefined variable 'y'"),
        ({"Result": "timeout", "ExecMainCode": 2, "ExecMainStatus": 15}, "the build took longer than 60 s"),
        ({"Result": "oom-kill", "ExecMainCode": 2, "ExecMainStatus": 9}, "more memory than its limit of 2G"),
        ({"Result": "signal", "ExecMainCode": 2, "ExecMainStatus": 9}, "more memory than its limit of 2G"),
        ({"Result": "core-dump", "ExecMainCode": 3, "ExecMainStatus": 11}, "ended by signal 11: error: undefined"),
        ({"Result": "signal", "ExecMainCode": 2, "ExecMainStatus": 31}, "ended by signal 31: error: undefined"),
    ],
)
async def test_a_failure_is_told_in_words(systemctl: FakeSystemctl, properties: dict[str, object], words: str) -> None:
    """Nix's own error, or what systemd says has ended it; systemd forgets the unit."""
    systemctl.show(LoadState="loaded", **properties)
    with pytest.raises(BuildFailed, match=words):
        await run(f"cat <<'E'\n{ERROR}\nE\nexit 1")
    assert systemctl.asked[-2:] == [f"--quiet stop {UNIT}", f"--quiet reset-failed {UNIT}"]


async def test_a_unit_that_cannot_run_is_the_hosts_fault(systemctl: FakeSystemctl) -> None:
    """What systemd refuses is no failure of the proposal."""
    systemctl.show(LoadState="not-found", Result="success", ExecMainCode=0, ExecMainStatus=0)
    with pytest.raises(HiveError, match="could not be run: Failed to start: no bus") as caught:
        await run("echo 'Failed to start: no bus' >&2; exit 1")
    assert caught.value.code == "cannot_build"


async def test_no_line_of_a_builder_is_the_reason_of_the_host(systemctl: FakeSystemctl) -> None:
    """The last line of a builder is not quoted as the reason why systemd could not run or set up the unit."""
    systemctl.show(LoadState="not-found", Result="success", ExecMainCode=0, ExecMainStatus=0)
    with pytest.raises(HiveError, match=r"could not be run: success$"):
        await run(f"echo '{BUILDER_LINE}'; exit 1")
    systemctl.show(LoadState="loaded", Result="exit-code", ExecMainCode=1, ExecMainStatus=200)
    with pytest.raises(HiveError, match="cannot set up") as caught:
        await run(f"echo '{BUILDER_LINE}'; exit 200")
    assert "I am systemd" not in caught.value.message


async def test_a_missing_program_is_told(systemctl: FakeSystemctl) -> None:
    """Without systemd-run nothing is built, and that is said."""
    with pytest.raises(HiveError, match="cannot run /no/systemd-run") as caught:
        await execute(UNIT, ["/no/systemd-run"], BOUNDS, print)
    assert caught.value.code == "cannot_build"


async def test_a_unit_that_cannot_be_set_up_is_no_failed_build(systemctl: FakeSystemctl) -> None:
    """Nix was never run: that is told as the host's fault, with where to look, and not as the configuration's."""
    systemctl.show(LoadState="loaded", Result="exit-code", ExecMainCode=1, ExecMainStatus=200)
    with pytest.raises(HiveError, match="cannot set up the unit of a build \\(exit status 200 of") as caught:
        await run("exit 200")
    assert caught.value.code == "cannot_build"
    assert "journalctl" in caught.value.hint


async def test_a_cancelled_build_is_stopped(systemctl: FakeSystemctl) -> None:
    """Whoever cancels waits until the unit is stopped, and nothing runs any more."""
    said: list[str] = []
    building = asyncio.create_task(run("echo $$; exec sleep 60", said))
    while not said:
        await asyncio.sleep(0.005)
    before = len(systemctl.asked)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert systemctl.asked[before:] == [f"--quiet stop {UNIT}", f"--quiet reset-failed {UNIT}"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(said[0]), 0)


async def test_a_build_that_floods_is_stopped(systemctl: FakeSystemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output without end is not read without end."""
    monkeypatch.setattr(executor, "OUTPUT_BYTES", 1024 * 1024)
    with pytest.raises(BuildFailed, match="printed more than 1 MiB"):
        await run("exec yes " + "x" * 1_000)
    assert f"--quiet stop {UNIT}" in systemctl.asked
