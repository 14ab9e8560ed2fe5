"""Checking hostile files: none of them holds up or ends the daemon."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.bubblewrap import confined, look
from hive_core.runtimes.local import config_check
from hive_core.runtimes.local.check_program import LARGEST, LARGEST_SETTINGS, SECONDS
from tests.helpers.git_repos import FILES
from tests.unit.core.runtimes.local.local_hive import need


async def refused(place: Path, files: Mapping[str, bytes], seconds: int = SECONDS) -> str:
    """What is said against these files."""
    for name, content in files.items():
        (place / name).write_bytes(content)
    with pytest.raises(BuildFailed) as failed:
        await config_check.check(place, lambda _: None, seconds=seconds)
    return str(failed.value)


async def test_what_is_well_is_told(tmp_path: Path) -> None:
    """Of each file that was checked a line says that it is well."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    said: list[str] = []
    await config_check.check(tmp_path, said.append)
    assert said == ["agent.toml: well (backend scripted)", "agent.nix: well (4 lines)"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"agent.nix": b"{ }"}, "agent.toml is missing"),
        ({"agent.toml": b""}, "agent.nix is missing"),
        ({"agent.toml": b"a = " + b"[" * 60_000}, "agent.toml is nested too deeply"),
        ({"agent.toml": b"a = \xff"}, "agent.toml, byte 5: this is not UTF-8 text"),
        ({"agent.toml": b"a = "}, "agent.toml is not TOML: "),
        ({"agent.toml": b"a = " + b"1" * 5_000}, "agent.toml is not TOML: "),
        ({"agent.toml": b"#" * (LARGEST_SETTINGS + 1)}, "agent.toml is larger than 65,536 bytes"),
        ({"agent.toml": b"", "agent.nix": b" " * (LARGEST + 1)}, "agent.nix is larger than 1,048,576 bytes"),
        ({"agent.toml": b"", "agent.nix": b"[" * 20_000}, "agent.nix, line 1, column 20001: "),
        ({"agent.toml": b"", "agent.nix": b"@" * 500_000}, "agent.nix, line 1, column 1: "),
    ],
)
async def test_hostile_files_are_refused(tmp_path: Path, files: Mapping[str, bytes], words: str) -> None:
    """Missing, deep, broken and huge files fail the build with what is wrong, whatever the parsers do."""
    assert (await refused(tmp_path, files)).startswith(words)


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link in place of a file is not read."""
    (tmp_path / "agent.toml").symlink_to("/etc/passwd")
    assert await refused(tmp_path, {}) == "agent.toml is not a plain file"


async def test_endless_parsing_is_ended(tmp_path: Path) -> None:
    """A text that the parser takes hours for fails the build; the daemon spends neither time nor memory on it."""
    before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = await refused(tmp_path, {"agent.toml": b"", "agent.nix": b"-" * 900_000 + b"1"}, seconds=1)
    assert "could not be parsed within 1 s" in words
    assert "make them simpler" in words
    assert time.process_time() - before[0] < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 50 * 1024


async def test_a_parser_that_cannot_run_is_no_fault_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be checked at all, that is told as the hive's trouble and not as the proposer's."""
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
    line = confined("bwrap", look(), files, [sys.executable, "-c", script])
    child = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert output.decode().strip() == "['files'] False ['lo']"
