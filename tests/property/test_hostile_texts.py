"""Texts of agents, and of what their configurations build, in all places that read them: none of them takes long.

`re` keeps other threads from running, so one pattern that tries again and again would stop the whole daemon.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.gate.auto_approval import path_matches
from hive_core.gate.intake.agent_toml import TOML_MOST, parse_config
from hive_core.gate.intake.text_check import check_text
from hive_core.gate.records.settings_diff import describe_changes
from hive_core.gate.records.tag_message import parse_message
from hive_core.infra.git.comparison.shown_diff import DiffSpace, split_files
from hive_core.infra.git.objects import message_bytes, parse_tag
from hive_core.infra.processes import LineCutter
from hive_core.infra.telemetry.log_config import hide_secrets
from hive_core.protocol import AgentConfig
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.local import config_check
from hive_core.runtimes.nixos.build.closure import closure_diff, exposure
from hive_core.runtimes.nixos.build.derivations import fetch_of, parse_derivation, parse_plan
from hive_core.runtimes.nixos.build.unit.nix_log import NixLog
from hive_core.text import escape_unprintable, escaped_first_line, find_escaped, one_line, quote, visible

STORE = Path("/nix/store")
HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"
SIZES = (1_000, 256 * 1024)
"""A reader whose time grows with the square needs minutes for the last, one with the cube needs seconds already for the
first.
"""
MOST_SECONDS = 4.0
"""Of processor time, which other programs do not change. The slowest needs a fifth of this."""

BLANKS = ["\n", " ", " \t\n"]
WORDS = [*BLANKS, "\\", '"', '\\"', "=", "[", "a", "a-", "a.", "\u200d", "\x1b[0;"]
SYSTEM = [
    *BLANKS,
    "\\\n",
    "\r",
    "=",
    "ListenStream=",
    "ListenStream= \\\n",
    "ListenStream=%i\n",
    "ExecStart=-@",
    "ExecStart=/nix/store/x \n",
    "nixos-fw -p tcp --dport 1 ",
    "nixos-fw -p tcp --dport 1 \n",
    'chown a "$wrapperDir/x" ',
    'chmod u+s+s+s "$wrapperDir/',
    'setcap "cap+ep" ',
    "/nix/store/",
]
BUILD = [
    *WORDS,
    "\x1b[",
    "1",
    "agent.nix:1:",
    ", at agent.nix:",
    " at ",
    "error: ",
    "  /nix/store/x\n",
    "these 2 derivations will be built:\n",
    "don't know",
]
COMMIT = [
    *WORDS,
    "\r\n",
    "\0",
    "x\ufe0f\u200d",
    "@@ -1 +1 @@\n",
    "diff --git \n",
    "a = 1\n",
    "[a.b.c]\n",
    '"a" . ',
    "*a",
]
MESSAGE = [*WORDS, "x\ufe0f\u200d", "aaaaaaaaaaaaaaaaaaaaaaaaaa-.", "Bearer ", "sk-ant-"]


def system_readers(text: str, tmp_path: Path) -> Iterator[Callable[[], object]]:
    """Yield readers of a system whose units and scripts have the text."""
    store = tmp_path.resolve() / "store"
    system = store / "system"
    files = system / exposure.UNITS
    files.mkdir(parents=True, exist_ok=True)
    for unit in ("x.socket", "firewall.service", "suid-sgid-wrappers.service"):
        (files / unit).write_text(text, errors="replace")
    script = store / "script"
    script.write_text(text, errors="replace")
    for unit in ("suid-sgid-wrappers.service.d", "firewall.service.d"):
        (files / unit).mkdir(exist_ok=True)
        (files / unit / "x.conf").write_text(f"ExecStart={script}\n")
    (system / "activate").write_text(text, errors="replace")
    yield lambda: exposure.differences(None, exposure.read_exposure(system, store))
    yield lambda: closure_diff.units(None, system, store)
    yield lambda: closure_diff.units(system, system, store)


def build_readers(text: str, _: Path) -> Iterator[Callable[[], object]]:
    """Yield readers of what Nix, builders and derivations say."""
    quoted = json.dumps(text, ensure_ascii=False)
    out = f'("out","/nix/store/{HASH}-x","sha256","00")'

    def read_log() -> None:
        log = NixLog(lambda _: None)
        fields = json.dumps({"action": "result", "type": 101, "fields": [text]})
        started = json.dumps({"action": "start", "type": 105, "id": 1, "text": text, "fields": [text], "level": 3})
        message = json.dumps({"action": "msg", "level": 0, "msg": text, "raw_msg": text})
        cutter = LineCutter(1024**2)
        for line in (f"@nix {fields}", f"@nix {started}", f"@nix {message}", f"@nix {text}", text, f"error: {text}"):
            for piece in cutter.feed(f"{line}\n".encode(errors="replace")):
                log.feed(piece.decode())
        assert log.error or log.foreign_line is not None

    def read_derivation(environment: str) -> None:
        found = parse_derivation("/x.drv", f'Derive([{out}],[],[],"s","b",[],[{environment}])'.encode(errors="replace"))
        assert found.fixed is not None
        fetch_of(found, found.fixed)

    yield read_log
    yield lambda: read_derivation(f'("url",{quoted})')
    yield lambda: read_derivation(f'("__json",{json.dumps(json.dumps({"urls": [text, *text[:1000]]}))})')
    yield lambda: read_derivation(text)
    yield lambda: read_derivation(f'("url","{text}')
    yield lambda: parse_plan(text, STORE)
    yield lambda: parse_plan(f"this derivation will be built:\n{text}", STORE)
    yield lambda: config_check._judge_message(f"error: {text}", 1)


def commit_readers(text: str, _: Path) -> Iterator[Callable[[], object]]:
    """Yield readers of files, settings, differences and tags."""
    data = text.encode(errors="replace")

    def show_diff() -> None:
        space = DiffSpace(100_000)
        for begins, piece in split_files([b"diff --git a b\n", data, b"\n@@ -1 +1 @@\n", data]):
            if begins:
                space.begin("x", "changed")
            space.add(piece)
        space.result()

    yield lambda: check_text("agent.nix", data)
    yield lambda: check_text("data.txt", data)
    yield lambda: parse_config(data[:TOML_MOST])
    yield lambda: parse_config(b"[mcp_servers.x]\nargs = [" + data[: TOML_MOST - 100])
    yield show_diff
    yield lambda: path_matches("/".join(["a" * 200] * 30), text[:200])
    yield lambda: path_matches("/".join(["a" * 200] * 30), "/".join(["*a*a*a*a*b"] * 10))
    yield lambda: describe_changes(None, AgentConfig(allowed_recipients=None, model=text[:200]))
    yield lambda: parse_message(text)
    yield lambda: parse_message(f"built: ada/1\n\nAgent: ada\nNumber: 1\nNote: {json.dumps(text)}\n")
    yield lambda: parse_tag("built/1", "0" * 40, b"object " + b"0" * 40 + b"\ntype commit\ntag " + data)
    yield lambda: message_bytes(text)


def message_readers(text: str, _: Path) -> Iterator[Callable[[], object]]:
    """Yield readers of messages and notes."""
    yield lambda: visible(text)
    yield lambda: escape_unprintable(text)
    yield lambda: find_escaped(text, 0, len(text))
    yield lambda: quote(text, len(text))
    yield lambda: one_line(text, len(text))
    yield lambda: escaped_first_line(text)
    yield lambda: hide_secrets(None, "", {"event": text, "more": [text, {"detail": text}]})


@pytest.mark.parametrize(
    ("readers", "texts"),
    [(system_readers, SYSTEM), (build_readers, BUILD), (commit_readers, COMMIT), (message_readers, MESSAGE)],
)
def test_no_text_takes_long(
    readers: Callable[[str, Path], Iterator[Callable[[], object]]], texts: list[str], tmp_path: Path
) -> None:
    """A quarter of a mebibyte, whatever is repeated in it, is read or refused in time that grows with its length."""
    for text, size in itertools.product(texts, SIZES):
        # The end is another character, so that a pattern for the repeated ones fails at the very end.
        whole = (text * (size // len(text) + 1))[: size - 1] + "!"
        for number, read in enumerate(readers(whole, tmp_path)):
            began = time.thread_time()
            with suppress(HiveError, BuildFailed, ValueError):
                read()
            took = time.thread_time() - began
            assert took < MOST_SECONDS, f"{size} characters of {text!r}: {took:.1f} s for reader {number}"
