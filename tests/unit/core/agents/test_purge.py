"""Removing what a hostile agent has left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hive_core.agents.purge import Trash, remove_tree
from hive_core.layout import Layout

ROOT = Path(__file__).parents[4]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "state", tmp_path / "run")
    for path in (made.agents, made.logs, made.run_dir / "agents"):
        path.mkdir(parents=True)
    return made


def dig(place: Path, name: str, depth: int) -> None:
    """Nest directories deeper than any path can say, with a file at the bottom."""
    here = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_the_deepest_tree_is_removed(tmp_path: Path) -> None:
    """10,000 directories in each other, with the longest names there are, are removed with few descriptors."""
    place = tmp_path / "place"
    place.mkdir()
    dig(place, "x" * 255, 10_000)
    remove_tree(place, threading.Event())
    assert not place.exists()


def test_a_broad_tree_is_removed_and_nothing_outside(tmp_path: Path) -> None:
    """Files, sockets' names, links to files, to directories and to nowhere go; what links point to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    place = tmp_path / "place"
    for number in range(30):
        inner = place / f"{number}" / "inner"
        inner.mkdir(parents=True)
        (inner / "to-file").symlink_to(outside / "kept")
        (inner / "to-directory").symlink_to(outside)
        (inner / "to-nowhere").symlink_to("/nowhere")
        os.mkfifo(inner / "fifo")
    (place / "link").symlink_to(outside)
    before = outside.stat()
    remove_tree(place, threading.Event())
    assert not place.exists()
    assert (outside / "kept").read_text() == "kept"
    assert stat.S_IMODE(outside.stat().st_mode) == stat.S_IMODE(before.st_mode)


LOCKED = """
import ctypes, os, sys, threading
from pathlib import Path
from hive_core.agents.purge import remove_tree
place = Path(sys.argv[1], "place")
if os.geteuid() == 0:
    os.chown(place.parent, 65534, 65534)
    os.chdir(place.parent)  # It may lie where only root gets through.
    place = Path("place")
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: with it /proc/self belongs to the new user.
deepest = place / "a" / "b" / "c"
deepest.mkdir(parents=True)
(deepest / "file").touch()
for path in (deepest, deepest.parent, deepest.parent.parent):
    path.chmod(0)
remove_tree(place, threading.Event())
print(place.exists())
"""


def test_directories_without_access_are_removed(tmp_path: Path) -> None:
    """An agent that takes the access to its directories away (mode 0) cannot keep a daemon that is not root out."""
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_stop_leaves_the_rest_for_later(tmp_path: Path) -> None:
    """A daemon that stops does not wait for a large removal; the next one finishes it."""
    place = tmp_path / "place"
    place.mkdir()
    dig(place, "x", 100)
    stop = threading.Event()
    stop.set()
    remove_tree(place, stop)
    assert place.exists()
    remove_tree(place, threading.Event())
    assert not place.exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stubborn file is an error in the end, after everything else was removed."""
    place = tmp_path / "place"
    place.mkdir()
    for name in ("a", "stubborn", "z"):
        (place / name).touch()
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "stubborn":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(PermissionError):
            remove_tree(place, threading.Event())
    assert [path.name for path in place.iterdir()] == ["stubborn"]


def test_all_of_an_agent_goes_into_the_trash(layout: Layout) -> None:
    """Home, sockets' directory and logs are out of the way at once, and another agent's are not."""
    for name in ("bob", "bobby"):
        layout.agent(name).state.mkdir(parents=True)
        layout.agent(name).own.mkdir(parents=True)
        for suffix in ("", ".1"):
            Path(f"{layout.agent_log(name)}{suffix}").touch()
    trash = Trash(layout)
    places = trash.take_all("bob")
    assert [path.name for path in layout.agents.iterdir()] == ["bobby"]
    assert [path.name for path in (layout.run_dir / "agents").iterdir()] == ["bobby"]
    assert sorted(path.name for path in layout.logs.iterdir()) == ["bobby.log", "bobby.log.1"]
    assert trash.places() == places
    for place in places:
        trash.empty(place)
        trash.empty(place)  # Somebody else was quicker.
    assert trash.places() == []


def test_a_home_that_is_a_link_goes_as_a_link(layout: Layout, tmp_path: Path) -> None:
    """What was put in the place of an agent's directory does not lead the removal elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    layout.agent_home("bob").symlink_to(outside)
    trash = Trash(layout)
    for place in trash.take_all("bob"):
        trash.empty(place)
    assert outside.exists() and not os.path.lexists(layout.agent_home("bob"))
