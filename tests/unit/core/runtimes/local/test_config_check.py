"""Checking hostile files: none of them holds up or ends the daemon."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.bubblewrap import confined, inspect_host
from hive_core.runtimes.local import config_check
from hive_core.runtimes.local.config_check import LARGEST, SECONDS
from tests.helpers.git_repos import FILES
from tests.unit.core.runtimes.local.local_hive import need


def need_nix() -> None:
    """Skip the test where Nix is not installed."""
    if shutil.which("nix-instantiate") is None:
        pytest.skip("nix-instantiate is not installed")


def place_nix(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """Make the script the only `nix-instantiate` on the PATH; with None there is none."""
    directory.mkdir()
    (directory / "ln").symlink_to(shutil.which("ln") or "")
    if script is not None:
        (directory / "nix-instantiate").write_text(f"#!/bin/sh\n{script}\n")
        (directory / "nix-instantiate").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


async def refused(place: Path, files: Mapping[str, bytes], seconds: int = SECONDS) -> str:
    """What is said against these files."""
    for name, content in files.items():
        (place / name).write_bytes(content)
    with pytest.raises(BuildFailed) as failed:
        await config_check.check(place, lambda _: None, seconds=seconds)
    return str(failed.value)


async def test_what_is_well_is_told(tmp_path: Path) -> None:
    """A file without syntax errors is reported as such."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    need_nix()
    said: list[str] = []
    await config_check.check(tmp_path, said.append)
    assert said == ["agent.nix: no syntax errors"]


async def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """An agent.nix beyond the limit fails the build, whether Nix is installed or not."""
    words = "agent.nix is larger than 1,048,576 bytes"
    assert (await refused(tmp_path, {"agent.nix": b" " * (LARGEST + 1)})).startswith(words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"[" * 20_000, "agent.nix, line 1, column "),
        (b"@" * 50_000, "agent.nix, line 1, column 1: syntax error, unexpected '@'"),
        (b"", "agent.nix, line 1, column 1: syntax error, unexpected end of file"),
        (b"\xef\xbb\xbf{ }", "agent.nix, line 1, column 1: "),
        (b"{\n  a = 1\n  b = 2;\n}", "agent.nix, line 3, column 5: syntax error, unexpected '='"),
        (b"{ a = nothing; }", "agent.nix, line 1, column 7: undefined variable 'nothing'"),
        (b"{ a = \x1b[2J" + b"x" * 20_000 + b"; }", "agent.nix, line 1, column 7: "),
    ],
)
async def test_nix_judges_agent_nix(tmp_path: Path, source: bytes, words: str) -> None:
    """A text that is not Nix fails the build with line and column; the message is short and safe to show."""
    need_nix()
    refusal = await refused(tmp_path, {"agent.nix": source})
    assert refusal.startswith(words)
    assert str(tmp_path) not in refusal
    assert "\x1b" not in refusal
    assert len(refusal) < 3_000


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("printf 'error: no such store\\n' >&2; exit 1", "nix-instantiate failed: no such store"),
        (None, "nix-instantiate is not on the PATH of the daemon"),
    ],
)
async def test_without_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, words: str) -> None:
    """Where Nix is missing or fails for a reason of its own, the build succeeds and its log says what is unchecked."""
    place_nix(tmp_path / "bin", monkeypatch, script)
    (tmp_path / "agent.nix").write_bytes(b"{ this is not Nix")
    said: list[str] = []
    await config_check.check(tmp_path, said.append)
    assert said == [f"agent.nix was not checked: {words}"]


async def test_a_nix_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot be executed is not taken for a fault of the files."""
    place_nix(tmp_path / "bin", monkeypatch, None)
    (tmp_path / "bin" / "nix-instantiate").write_bytes(b"\0")
    (tmp_path / "bin" / "nix-instantiate").chmod(0o755)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    said: list[str] = []
    await config_check.check(tmp_path, said.append)
    assert said[0].startswith("agent.nix was not checked: ")
    assert "cannot be started: Exec format error" in said[0]


async def test_nix_is_parsed_with_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nix runs with the limits of the check, a dummy store and nothing of the daemon's environment."""
    seen = tmp_path / "seen"
    # The limit for files forbids writing one; a link can hold a short text, of which pathlib drops double slashes.
    script = f'ln -s "$(ulimit -t) $(ulimit -v) $(ulimit -f) $NIX_REMOTE $HOME $1 ${{HIVE_SECRET:-none}}" {seen}'
    place_nix(tmp_path / "bin", monkeypatch, script)
    monkeypatch.setenv("HIVE_SECRET", "leaked")
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    await config_check.check(tmp_path, lambda _: None, seconds=7)
    assert str(seen.readlink()) == "7 1048576 0 dummy:/ /homeless-shelter --parse none"


async def test_nix_runs_in_the_sandbox(tmp_path: Path) -> None:
    """Nix parses in the sandbox of the check, where neither a store nor a home directory is shown."""
    need("bubblewrap")
    need_nix()
    said: list[str] = []
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    await config_check.check(tmp_path, said.append, partial(confined, "bwrap", inspect_host()))
    assert said == ["agent.nix: no syntax errors"]


async def test_endless_parsing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that the parser takes hours for fails the build; the daemon spends neither time nor memory on it."""
    place_nix(tmp_path / "bin", monkeypatch, "while :; do :; done")
    before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = await refused(tmp_path, {"agent.nix": b"{ }"}, seconds=1)
    assert "could not be parsed within 1 s" in words
    assert "make it simpler" in words
    assert time.process_time() - before[0] < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 50 * 1024


async def test_a_parser_that_cannot_run_is_no_fault_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be checked at all, that is told as the hive's trouble and not as the proposer's."""
    place_nix(tmp_path / "bin", monkeypatch, "exit 0")
    (tmp_path / "agent.nix").write_bytes(FILES["agent.nix"])
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(HiveError) as cannot:
        await config_check.check(tmp_path, lambda _: None)
    assert (cannot.value.code, cannot.value.status) == ("cannot_build", 500)


async def test_the_parsers_see_only_the_files(tmp_path: Path) -> None:
    """Where there is a sandbox, what runs over an agent's files sees these and no others, and no network."""
    need("bubblewrap")
    files, other = tmp_path / "files", tmp_path / "other"
    for place in (files, other):
        place.mkdir()
    script = f"""
import os
print(sorted(os.listdir({str(tmp_path)!r})), os.access({str(files)!r}, os.W_OK),
      [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])
"""
    line = confined("bwrap", inspect_host(), files, [sys.executable, "-c", script])
    child = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert output.decode().strip() == "['files'] False ['lo']"
