"""The local runtime with real processes, in both of its modes."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra import processes
from hive_core.layout import Layout
from hive_core.runtimes.bubblewrap import inspect_host, python_paths
from hive_core.runtimes.local.runtime import LocalRuntime, Sandbox, harness_command
from tests.unit.core.runtimes.local.local_hive import (
    NEVER,
    OBEY_PARENT,
    POLITE,
    STUBBORN,
    Mode,
    gone,
    make_spec,
    need,
    opened,
    until,
)

MODES = pytest.mark.parametrize("mode", ["bubblewrap", "none"])

LEAVE_SOMEBODY = """
import subprocess
# Holds no pipe and is in a session of its own, as the shells of agent CLIs are.
left = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("left", flush=True)
"""


async def test_a_state_directory_in_sight_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every sandbox would show the state directory, with all agents' files, the hive does not start."""
    need("bubblewrap")
    monkeypatch.setattr(
        "hive_core.runtimes.local.runtime.inspect_host", lambda: inspect_host(python=[*python_paths(), tmp_path])
    )
    with pytest.raises(HiveError) as refused:
        await LocalRuntime.open("bubblewrap", closures=tmp_path / "closures", scratch=tmp_path / "scratch")
    assert refused.value.code == "state_dir_shown"


@MODES
async def test_the_harness_is_asked_to_stop(mode: Mode, tmp_path: Path) -> None:
    """SIGTERM reaches the harness itself, also in a sandbox, and it may end in its own way."""
    async with opened(mode, tmp_path, POLITE) as hive:
        await hive.runtime.start(hive.spec())
        await hive.line("up")
        await hive.runtime.stop("ada")
        assert (hive.unit().lifecycle, hive.unit().exit_cause) == ("stopped", "exit code 0")
        await hive.line("asked to stop")


@MODES
async def test_a_stubborn_harness_is_killed(mode: Mode, tmp_path: Path) -> None:
    """A harness that ignores SIGTERM is killed when its time is over."""
    async with opened(mode, tmp_path, STUBBORN, stop_timeout=0.1) as hive:
        await hive.runtime.start(hive.spec())
        await hive.line("up")
        await hive.runtime.stop("ada")
        assert hive.unit().exit_cause == "killed by SIGKILL"


@MODES
async def test_the_pid_is_the_harness(mode: Mode, tmp_path: Path) -> None:
    """The pid that is told is that of the harness: killing it is seen as what it is, and the agent comes back."""
    async with opened(mode, tmp_path, POLITE) as hive:
        changes = hive.runtime.watch()
        await hive.runtime.start(hive.spec())
        await hive.line("up")
        first = hive.unit().pid
        assert first is not None
        assert command_line(first)[:2] == [sys.executable, "-c"]
        os.kill(first, signal.SIGKILL)
        assert (await until(changes, "backoff")).exit_cause == "killed by SIGKILL"
        again = await until(changes, "running")
        assert (again.restarts, again.pid != first) == (1, True)


@MODES
async def test_a_crash_is_told_with_its_exit_code(mode: Mode, tmp_path: Path) -> None:
    """The end of a harness is told as it was, with its last line, also if its code looks like a signal of a shell."""
    harness = "import sys; print('up', flush=True); print('no key', file=sys.stderr); sys.exit(250)"
    async with opened(mode, tmp_path, harness, back_off=NEVER) as hive:
        changes = hive.runtime.watch()
        await hive.runtime.start(hive.spec())
        assert (await until(changes, "backoff")).exit_cause == "exit code 250"
        assert await hive.runtime.last_line("ada") == "no key"


@MODES
async def test_nothing_is_left_behind(mode: Mode, tmp_path: Path) -> None:
    """What a harness started, and what left its session, is dead when the stop returns."""
    async with opened(mode, tmp_path, LEAVE_SOMEBODY + POLITE) as hive:
        await hive.runtime.start(hive.spec())
        await hive.line("left")
        await hive.line("up")
        (left,) = children(hive.unit().pid)
        pidfd = os.pidfd_open(left)
        await hive.runtime.stop("ada")
        # A signal has been sent and taken: what remains is for its new parent to reap it.
        await gone(pidfd)


def children(pid: int | None) -> list[int]:
    """The children of a process, as the host numbers them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> list[str]:
    """The arguments of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


async def test_an_adopted_sandbox_is_reaped(tmp_path: Path) -> None:
    """A daemon that inherits orphans (it is process 1 of a container, say) does not collect dead sandboxes."""
    need("bubblewrap")
    script = """
import ctypes, os
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap
why_no_bubblewrap()
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to this process
"""
    ended = """
        await hive.runtime.stop("ada")
        print(open(f"/proc/self/task/{os.getpid()}/children").read().split(), flush=True)
"""
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script + DAEMON.replace("        await asyncio.sleep(1000)\n", ended)),
        *("bubblewrap", str(tmp_path), POLITE),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[5],
    )
    async with asyncio.timeout(60):
        output, _ = await daemon.communicate()
    assert output.split(b"\n")[1] == b"[]"


@MODES
async def test_agents_side_by_side(mode: Mode, tmp_path: Path) -> None:
    """Agents are started and stopped at once without disturbing each other; each has its own log."""
    names = ["ada", "bob", "cy", "dora"]
    async with opened(mode, tmp_path, "import os; print(os.environ['ME'], flush=True)" + POLITE) as hive:
        await asyncio.gather(*(hive.runtime.start(hive.spec(name, {"ME": f"I am {name}"})) for name in names))
        assert {unit.lifecycle for unit in hive.runtime.units()} == {"running"}
        for name in names:
            await hive.line(f"I am {name}", name)
            await hive.line("up", name)
        await asyncio.gather(hive.runtime.stop("ada"), hive.runtime.stop("bob"))
        assert [hive.unit(name).lifecycle for name in names] == ["stopped", "stopped", "running", "running"]
        await hive.runtime.destroy("ada")
        assert {unit.name for unit in hive.runtime.units()} == {"bob", "cy", "dora"}
        assert hive.layout.agent("ada").state.is_dir()
        # The log of a destroyed agent can still be read.
        assert await hive.line("I am ada")


@MODES
async def test_agents_start_beyond_the_descriptors_of_select(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon with more than 1,024 files open starts agents, and each agent has the soft limit of before."""
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True);" + POLITE
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(processes, "_usual_files", None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_000, before[1]))
    try:
        processes.allow_many_files()
        with ExitStack() as stack:
            for _ in range(1_100):
                stack.callback(os.close, os.open("/", os.O_PATH | os.O_CLOEXEC))
            async with opened(mode, tmp_path, script) as hive:
                await hive.runtime.start(hive.spec())
                await hive.line("up")
                assert await hive.line("1000") == "1000"
                await hive.runtime.stop("ada")
                assert (hive.unit().lifecycle, hive.unit().exit_cause) == ("stopped", "exit code 0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@MODES
async def test_a_flood_does_not_starve_the_daemon(mode: Mode, tmp_path: Path) -> None:
    """While an agent writes without end, the loop turns, other agents are stopped, and disk use is bounded."""
    flood = "import os\nwhile True:\n    os.write(1, b'y\\n' * 30_000)"
    async with opened(mode, tmp_path, flood, stop_timeout=0.1) as hive:
        await hive.runtime.start(hive.spec())
        log = hive.layout.agent_log("ada")
        cursor = "0-0"
        for _ in range(5):
            lines, cursor = await hive.runtime.read_log("ada", log, 1, cursor, 30)
            assert lines[0].endswith(" y")
        async with asyncio.timeout(30):
            await hive.runtime.stop("ada")
        assert sum(file.stat().st_size for file in log.parent.iterdir()) <= 11 * 1024 * 1024


async def test_plain_mode_names_host_paths(tmp_path: Path) -> None:
    """Without a sandbox the harness learns where its directories are, who its parent is, and nothing of the daemon."""
    script = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]), flush=True)"
    async with opened("none", tmp_path, script + POLITE) as hive:
        assert hive.runtime.confinement.startswith("plain processes, not confined: ")
        spec = hive.spec(environment={"KEY": "value", "HIVE_PARENT_PID": "1"})
        await hive.runtime.start(spec)
        cwd, seen = json.loads(await hive.line('["'))
    assert cwd == str(spec.paths.state)
    assert seen["HIVE_AGENT_RUN"] == str(spec.paths.run)
    assert seen["HIVE_AGENT_STATE"] == str(spec.paths.state)
    assert seen["HIVE_AGENT_CLAUDE"] == str(spec.paths.claude)
    assert seen["HIVE_AGENT_CONFIG"] == str(spec.paths.config)
    assert (seen["HIVE_PARENT_PID"], seen["KEY"]) == (str(os.getpid()), "value")
    assert set(seen) <= {"KEY", "PATH", "LANG", "LC_CTYPE", "HOME", "PYTHONPATH", "HIVE_PARENT_PID"} | {
        key for key in seen if key.startswith(("HIVE_AGENT_", "GIT_"))
    }


async def test_a_program_that_is_not_there_has_failed(tmp_path: Path) -> None:
    """An agent that cannot be spawned at all is failed, with the reason."""
    runtime = await LocalRuntime.open(
        "none", closures=tmp_path / "closures", scratch=tmp_path / "scratch", harness=lambda _: ["/no/such/harness"]
    )
    await runtime.start(make_spec(Layout(tmp_path, tmp_path / "run"), "ada", {}))
    (unit,) = runtime.units()
    assert (unit.lifecycle, unit.exit_cause) == (
        "failed",
        "cannot be started: No such file or directory: /no/such/harness",
    )
    await runtime.close()


async def test_watchers_end_with_the_runtime(tmp_path: Path) -> None:
    """Every watcher sees every change in order, from when it asked; closing stops the agents and ends the watchers."""
    async with opened("none", tmp_path, POLITE) as hive:
        changes = hive.runtime.watch()
        await hive.runtime.start(hive.spec())
        late = hive.runtime.watch()
        await hive.line("up")
        await hive.runtime.close()
        assert [state.lifecycle async for state in changes] == ["starting", "running", "stopping", "stopped"]
        assert [state.lifecycle async for state in late] == ["stopping", "stopped"]
        assert [state async for state in hive.runtime.watch()] == []
        with pytest.raises(HiveError, match="stopping"):
            await hive.runtime.start(hive.spec())


async def open_in(place: Path, sandbox: Sandbox) -> LocalRuntime:
    return await LocalRuntime.open(sandbox, closures=place / "closures", scratch=place / "scratch")


async def test_no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bubblewrap is not installed, `auto` says that agents are not confined, and `bubblewrap` is refused."""
    monkeypatch.setenv("PATH", str(tmp_path))
    runtime = await open_in(tmp_path, "auto")
    assert runtime.confinement == "plain processes, not confined: bubblewrap is not installed"
    with pytest.raises(HiveError) as refused:
        await open_in(tmp_path, "bubblewrap")
    assert (refused.value.code, bool(refused.value.hint)) == ("no_sandbox", True)


async def test_bubblewrap_that_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bubblewrap is there and fails, its own words are the reason."""
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    problem = "bwrap failed: bwrap: No permissions to create new namespace"
    assert (await open_in(tmp_path, "auto")).confinement == f"plain processes, not confined: {problem}"
    with pytest.raises(HiveError, match="No permissions"):
        await open_in(tmp_path, "bubblewrap")


def test_the_harness_of_each_kind() -> None:
    """Agents and the manager have their own harness, and neither imports from the directory that it is run in."""
    assert harness_command("agent") == [sys.executable, "-P", "-m", "hive_agent", "serve"]
    assert harness_command("manager") == [sys.executable, "-P", "-m", "hive_manager", "serve"]


DAEMON = """
import asyncio, sys
from pathlib import Path
from hive_core.layout import Layout
from tests.unit.core.runtimes.local.local_hive import opened

async def main(mode, place, script):
    async with opened(mode, Path(place), script) as hive:
        await hive.runtime.start(hive.spec())
        await hive.line("up")
        print(hive.unit().pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


@MODES
async def test_no_child_outlives_a_killed_daemon(mode: Mode, tmp_path: Path) -> None:
    """When the daemon is killed without a chance to clean up, its harnesses die, too."""
    need(mode)
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DAEMON, mode, str(tmp_path), OBEY_PARENT + STUBBORN),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[5],
    )
    assert daemon.stdout is not None
    async with asyncio.timeout(60):
        harness = os.pidfd_open(int(await daemon.stdout.readline()))
    daemon.kill()
    await daemon.wait()
    await gone(harness)
