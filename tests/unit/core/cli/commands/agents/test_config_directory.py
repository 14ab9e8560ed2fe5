"""The directory of `spawn --config-dir`, as people, editors and git leave it there."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from hive_core.cli.commands.agents.config_directory import read_directory
from hive_core.cli.errors import Failure
from hive_core.protocol import SpawnRequest
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


def decoded(files: dict[str, str]) -> dict[str, bytes]:
    return {path: base64.b64decode(content) for path, content in files.items()}


def test_the_whole_tree_is_read(tmp_path: Path) -> None:
    """Files in directories, binary ones, CR LF and executable bits stay as they are."""
    (tmp_path / "agent.nix").write_text("{ imports = [ ./nix/tools.nix ]; }\n")
    (tmp_path / "nix").mkdir()
    (tmp_path / "nix/tools.nix").write_text("{ }\n")
    (tmp_path / ".gitignore").write_text("result\n")
    (tmp_path / "notes.txt").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "empty").mkdir()
    files = read_directory(tmp_path)
    assert decoded(files.others) == {
        "nix/tools.nix": b"{ }\n",
        ".gitignore": b"result\n",
        "notes.txt": b"one\r\ntwo\r\n",
        "picture.png": b"\x89PNG\0",
        "run.sh": b"#!/bin/sh\n",
    }
    assert (files.executables, files.left_out) == (["run.sh"], [])


def test_byte_order_marks_and_line_ends_of_windows(tmp_path: Path) -> None:
    """The three files may have both, as editors of Windows save them."""
    (tmp_path / "agent.toml").write_bytes(b'\xef\xbb\xbfmodel = "m"\r\n')
    (tmp_path / "prompt.md").write_bytes(b"\xef\xbb\xbfYou\r\nwait.\r\n")
    (tmp_path / "agent.nix").write_bytes(b"\xef\xbb\xbf{ }\r\n")
    files = read_directory(tmp_path)
    assert (files.config, files.prompt, files.agent_nix) == ({"model": "m"}, "You\nwait.\n", "{ }\n")
    (tmp_path / "prompt.md").write_bytes("You wait.".encode("utf-16"))
    with pytest.raises(Failure, match=r"prompt\.md is not UTF-8 text"):
        read_directory(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *(".git", ".jj", ".hg", ".svn", ".DS_Store", "._prompt.md", "Thumbs.db", "__pycache__"),
        *("prompt.md~", "#prompt.md#", ".prompt.md.swp", ".prompt.md.swo", ".swp", "prompt.md.orig", "agent.nix.bak"),
        *(".~lock.notes.odt#", "agent.toml.rej"),
    ],
)
def test_leftovers_of_programs_are_left_out(name: str, tmp_path: Path) -> None:
    """Files that editors, git and file managers leave are not sent, and are named."""
    (tmp_path / "prompt.md").write_text("You wait.")
    (tmp_path / name).write_bytes(b"\0")
    files = read_directory(tmp_path)
    assert (files.others, files.left_out) == ({}, [name])


def test_locks_and_results_that_are_links_are_left_out(tmp_path: Path) -> None:
    """Emacs marks an open file with a dangling link, and `nix build` leaves links into the store."""
    (tmp_path / ".#prompt.md").symlink_to("ada@host.123:456")
    (tmp_path / "result").symlink_to("/nix/store")
    (tmp_path / ".git").write_text("gitdir: ../.git/worktrees/ada\n")
    assert sorted(read_directory(tmp_path).left_out) == [".#prompt.md", ".git", "result"]


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    """Links, which could lead to any file of the person, FIFOs and files that cannot be read: nothing is sent."""
    (tmp_path / "prompt.md").symlink_to("/etc/hostname")
    (tmp_path / "deep").mkdir()
    os.mkfifo(tmp_path / "deep/fifo")
    with pytest.raises(Failure) as raised:
        read_directory(tmp_path)
    assert raised.value.code == "bad_agent_file"
    assert "deep/fifo is no plain file; prompt.md is a symbolic link" in raised.value.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("promt.md", "prompt.md"),
        ("Prompt.md", "prompt.md"),
        ("PROMPT.MD", "prompt.md"),
        ("prompt.txt", "prompt.md"),
        ("agents.toml", "agent.toml"),
        ("agent.tml", "agent.toml"),
        ("agnet.nix", "agent.nix"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(name: str, meant: str, tmp_path: Path) -> None:
    """A role that nobody reads would be lost in silence; with both files there both are meant."""
    (tmp_path / name).write_text("")
    with pytest.raises(Failure, match=rf"{name}: did you mean {meant}\?"):
        read_directory(tmp_path)
    for known in ("prompt.md", "agent.toml", "agent.nix"):
        (tmp_path / known).write_text("")
    assert list(read_directory(tmp_path).others) == [name]


@pytest.mark.parametrize("name", ["README.md", "flake.nix", "CLAUDE.md", "tools.nix", "LICENSE", "module.nix"])
def test_other_names_are_not_misspelt(name: str, tmp_path: Path) -> None:
    """Usual names of further files are taken, whether the three files are there or not."""
    (tmp_path / name).write_text("")
    assert list(read_directory(tmp_path).others) == [name]


async def test_the_tree_is_sent_and_leftovers_are_told(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """The request has the other files; what is left out is said on stderr."""
    (tmp_path / "tools.nix").write_text("{ }")
    (tmp_path / "go").write_text("x")
    (tmp_path / "go").chmod(0o700)
    (tmp_path / "tools.nix~").write_text("{")
    ended = await hive.run("spawn", "alice", "--config-dir", str(tmp_path), "--no-wait")
    assert ended.code == 0, ended.err
    assert ended.err == "left out, as no part of a configuration: tools.nix~\n"
    assert daemon.asked[0][2] == SpawnRequest(
        name="alice", files={"tools.nix": "eyB9", "go": "eA=="}, executables=["go"]
    )
