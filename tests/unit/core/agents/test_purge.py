"""Deletion of the files that a hostile agent has left."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hive_core.agents.purge import Trash
from hive_core.layout import Layout

ROOT = Path(__file__).parents[4]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "state", tmp_path / "run")
    for path in (layout.agents, layout.logs, layout.run_dir / "agents"):
        path.mkdir(parents=True)
    return layout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty directory, to be filled and deleted."""
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


@pytest.fixture
def trash(layout: Layout) -> Trash:
    return Trash(layout)


def delete(trash: Trash, directory: Path) -> None:
    asyncio.run(trash.delete(directory))


def nest_directories(tree: Path, name: str, depth: int) -> None:
    """Nest directories deeper than a path can say, with a file in the innermost."""
    parent = os.open(tree, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=parent)
        child = os.open(name, os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=parent))
    os.close(parent)


@pytest.mark.parametrize("as_root", [True, False])
def test_the_deepest_tree_is_deleted(tree: Path, trash: Trash, monkeypatch: pytest.MonkeyPatch, as_root: bool) -> None:
    """10,000 nested directories with the longest names are deleted, also after a chmod of all of them."""
    monkeypatch.setattr(os, "geteuid", lambda: 0 if as_root else 65534)
    nest_directories(tree, "x" * 255, 10_000)
    delete(trash, tree)
    assert not tree.exists()


@pytest.mark.parametrize("as_root", [True, False])
def test_a_broad_tree_is_deleted_and_nothing_outside(
    tmp_path: Path, tree: Path, trash: Trash, monkeypatch: pytest.MonkeyPatch, as_root: bool
) -> None:
    """Files, fifos, strange names and links are deleted; the targets of links keep their content and their mode."""
    monkeypatch.setattr(os, "geteuid", lambda: 0 if as_root else 65534)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (outside / "kept").chmod(0o400)
    outside.chmod(0o500)
    for number in range(30):
        inner = tree / f"{number}" / "inner"
        inner.mkdir(parents=True)
        (inner / "to-file").symlink_to(outside / "kept")
        (inner / "to-directory").symlink_to(outside)
        (inner / "to-nowhere").symlink_to("/nowhere")
        (inner / "--no-preserve-root").touch()
        Path(os.fsdecode(os.fsencode(inner) + b"/new\nline \xff")).touch()
        os.mkfifo(inner / "fifo")
    (tree / "link").symlink_to(outside)
    delete(trash, tree)
    assert not tree.exists()
    assert (outside / "kept").read_text() == "kept"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (outside, outside / "kept")] == [0o500, 0o400]


LOCKED = """
import asyncio, ctypes, os, sys
import concurrent.futures.thread  # asyncio imports it later, when the interpreter may be out of reach.
from pathlib import Path
from hive_core.agents.purge import Trash
from hive_core.layout import Layout
tree = Path(sys.argv[1], "tree")
if os.geteuid() == 0:
    os.chown(tree.parent, 65534, 65534)
    os.chdir(tree.parent)  # It may lie where only root gets through.
    tree = Path("tree")
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: with it /proc/self belongs to the new user.
deepest = tree / "a" / "b" / "c"
deepest.mkdir(parents=True)
(deepest / "file").touch()
for path in (deepest, deepest.parent, deepest.parent.parent):
    path.chmod(0)
asyncio.run(Trash(Layout(tree, tree)).delete(tree))
print(tree.exists())
"""


def test_directories_without_access_are_deleted(tmp_path: Path) -> None:
    """An agent that takes the access to its directories away (mode 0) cannot keep a daemon that is not root out."""
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


MOUNTED = """
import asyncio, sys
from pathlib import Path
from hive_core.agents.purge import Trash
from hive_core.layout import Layout
tree = Path(sys.argv[1])
(tree / "b" / "a mount" / "kept").touch()
try:
    asyncio.run(Trash(Layout(tree, tree)).delete(tree))
except OSError as error:
    print(error.strerror)
print(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
"""


def test_another_file_system_is_left_alone_and_told(tree: Path) -> None:
    """The content of a mounted file system stays; everything else is deleted, and the error names the mount point."""
    bubblewrap = shutil.which("bwrap")
    assert bubblewrap is not None
    for name in ("a", "b/a mount", "c"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    mounts = ["--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", str(tree / "b" / "a mount")]
    done = subprocess.run(
        [bubblewrap, *mounts, sys.executable, "-c", MOUNTED, str(tree)],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    message = "rm: skipping 'tree/b/a mount', since it's on a different device"
    assert (done.stdout.splitlines(), done.stderr) == ([message, "['b', 'b/a mount', 'b/a mount/kept']"], "")


def test_a_stop_leaves_the_rest_for_later(tree: Path, layout: Layout) -> None:
    """A daemon that stops does not wait for a large deletion; the next one finishes it."""
    nest_directories(tree, "x", 100)
    stopped = Trash(layout)
    stopped.stop()
    delete(stopped, tree)
    assert tree.exists()
    delete(Trash(layout), tree)
    assert not tree.exists()


@pytest.fixture
def fake_rm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty program `rm`, the first on the PATH."""
    program = tmp_path / "bin" / "rm"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


async def end_when_running(trash: Trash, tree: Path, pid_file: Path, *, cancel: bool) -> None:
    """Begin to delete `tree`, and end that when rm has written its id."""
    deletion = asyncio.create_task(trash.delete(tree))
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(pid_file.exists):
            await asyncio.sleep(0.01)
        if not cancel:
            trash.stop()
            await deletion
            return
        deletion.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deletion


@pytest.mark.parametrize("cancel", [True, False])
def test_a_running_deletion_is_killed(tree: Path, trash: Trash, tmp_path: Path, fake_rm: Path, cancel: bool) -> None:
    """The end of the daemon kills rm and reaps it; a destroy that waits for it succeeds, as its agent is removed."""
    pid_file = tmp_path / "pid"
    fake_rm.write_text(f"#!/bin/sh\necho $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 600\n")
    asyncio.run(end_when_running(trash, tree, pid_file, cancel=cancel))
    assert not Path("/proc", pid_file.read_text().strip()).exists()
    assert tree.exists()


def test_an_error_of_rm_is_escaped_and_bounded(tree: Path, trash: Trash, fake_rm: Path) -> None:
    """An error is told in one short printable line with the reason at its end, also for a path of 40,000 bytes."""
    fake_rm.write_text("#!/bin/sh\nprintf 'rm: \\033[2J%040000d: Not permitted\\nsecond' 0 >&2\nexit 1\n")
    with pytest.raises(OSError, match="Not permitted") as failure:
        delete(trash, tree)
    text = str(failure.value.strerror)
    assert text.startswith("rm: \\x1b[2J000") and text.isprintable() and len(text) < 400


def test_a_missing_rm_is_told(tree: Path, trash: Trash, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without coreutils on the PATH the error names the missing program, and the files stay in the trash."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(FileNotFoundError) as failure:
        delete(trash, tree)
    assert failure.value.filename == "rm"
    assert tree.exists()


def test_all_of_an_agent_goes_into_the_trash(layout: Layout, trash: Trash) -> None:
    """Home, run directory and logs are moved at once, and those of an agent with a similar name are not."""
    for name in ("bob", "bobby"):
        layout.agent(name).state.mkdir(parents=True)
        layout.agent(name).run.mkdir(parents=True)
        for suffix in ("", ".1"):
            Path(f"{layout.agent_log(name)}{suffix}").touch()
    directories = trash.move_all("bob")
    assert [path.name for path in layout.agents.iterdir()] == ["bobby"]
    assert [path.name for path in (layout.run_dir / "agents").iterdir()] == ["bobby"]
    assert sorted(path.name for path in layout.logs.iterdir()) == ["bobby.log", "bobby.log.1"]
    assert trash.directories() == directories
    for directory in directories:
        delete(trash, directory)
        delete(trash, directory)  # Another deletion was faster.
    assert trash.directories() == []


def test_what_an_older_hive_left_goes_into_the_trash(layout: Layout, trash: Trash, tmp_path: Path) -> None:
    """`own`, which agents of older hives could write, goes with the links in it, and so do unknown agents' sockets."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    own = layout.agent("bob").run / "own"
    own.mkdir(parents=True)
    (own / "web.sock").symlink_to(outside / "kept")
    (own / "down").symlink_to(outside)
    own.chmod(0)
    layout.views.mkdir()
    for name in ("bob", "gone"):
        layout.view_socket(name).touch()
    for directory in trash.trash_orphaned({"bob", "ann"}):
        delete(trash, directory)
    assert list(layout.agent("bob").run.iterdir()) == []
    assert list(layout.views.iterdir()) == [layout.view_socket("bob")]
    assert (outside / "kept").exists()


def test_a_home_that_is_a_link_is_deleted_as_a_link(layout: Layout, trash: Trash, tmp_path: Path) -> None:
    """A link in the place of an agent's directory does not lead the deletion elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    layout.agent_home("bob").symlink_to(outside)
    for directory in trash.move_all("bob"):
        delete(trash, directory)
    assert outside.exists() and not os.path.lexists(layout.agent_home("bob"))


def test_temporary_files_of_an_earlier_daemon_go_into_the_trash(layout: Layout, trash: Trash) -> None:
    """Scratch is empty after a start, but for what is at work already; so are repositories that were being made."""
    left = [layout.scratch / "intake-a", layout.scratch / "closure-b", layout.scratch / "unknown"]
    left += [layout.applied / ".ada.git.new", layout.agents / "ada" / ".config.new"]
    kept = [layout.scratch / "build-trial", layout.scratch / "doctor-1", layout.applied / "ada.git"]
    for directory in (*left, *kept):
        (directory / "deep").mkdir(parents=True)
    trash.trash_scratch()
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    for directory in trash.directories():
        delete(trash, directory)
    assert trash.directories() == []
    trash.trash_scratch()
    assert trash.directories() == []
