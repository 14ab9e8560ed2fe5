"""The exposure of a system: programs with privileges, ports of its socket units, and openings of its firewall.

The facts are read from the built system, not from the configuration, because the system is what runs. NixOS makes its
programs with privileges and its firewall with scripts that two units start (nixpkgs:
nixos/modules/security/wrappers/default.nix and nixos/modules/services/networking/firewall-iptables.nix). A service can
listen or set such bits without a socket unit or those scripts, so the facts are no proof that there is nothing else.
What is there but could not be read is counted.

The author of a proposal chose every file, and what reads them must not keep the daemon from its work: the files are
read line by line, in time that grows with their bytes and not faster. Patterns with several open ends, which can take
hours for one line, are not used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from hive_core.infra.storage.files import read_bytes
from hive_core.text import one_line

UNITS = Path("etc/systemd/system")
MOST = 60
"""The highest number of lines; more are counted."""
_MOST_ENTRIES = 5_000
_MOST_FILE_BYTES = 256 * 1024
_MOST_BYTES = 8 * 1024 * 1024
_WIDTH = 300
_LONGEST_LINE = 2_000
"""Characters of the longest line, continued ones joined, that is looked at."""
_MOST_SCRIPTS = 100
_MOST_FACTS = 2_000
_LISTEN = frozenset({"ListenStream", "ListenDatagram", "ListenSequentialPacket"})
_EXEC = frozenset({"ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload"})
_EXEC_PREFIXES = "-@:+!|"
_COMMAND_WORDS = 3
_WRAPPERS = "$wrapperDir/"
_LINE_ENDS = str.maketrans({"\r": "\n", "\0": "\n"})
"""systemd ends a line at each of these."""
_SCRIPTS = frozenset({"suid-sgid-wrappers.service", "firewall.service"})


@dataclass
class Exposure:
    """The exposure of one system.

    `programs` gives the privileges of each program, `ports` what listens, by unit and address, and what the firewall
    lets in, by protocol and port. `unread` names what could not be read.
    """

    programs: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def differences(old: Exposure | None, new: Exposure) -> list[str]:
    """Return a line for each difference, programs with privileges first; without `old` everything is new. Pure."""
    before = old or Exposure()
    lines = _changes("program with privileges", before.programs, new.programs)
    lines += _changes("port", before.ports, new.ports)
    if len(lines) > MOST:
        lines[MOST - 1 :] = [f"and {len(lines) - MOST + 1} more programs with privileges and ports"]
    if new.unread:
        what = one_line(", ".join(new.unread[:5]), _WIDTH // 2)
        lines.insert(0, f"NOT READ, so its privileges and ports are not known: {len(new.unread)} files: {what}")
    return lines


def _changes(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        shown = one_line(name, 100)
        if name not in old:
            lines.append(f"{what} added: {shown} ({one_line(new[name], 150)})")
        elif name not in new:
            lines.append(f"{what} removed: {shown}")
        elif old[name] != new[name]:
            lines.append(f"{what} changed: {shown} ({one_line(old[name], 100)} → {one_line(new[name], 100)})")
    return lines


def read_exposure(system: Path, store: Path) -> Exposure:
    """Read the exposure of a system. Reads nothing outside of the store, and a bounded number of bytes. Blocks."""
    return _Reader(store).read(system)


class _Reader:
    """Reads one system. Its author chose all files, their number and their content."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._entries_left = _MOST_ENTRIES
        self._bytes_left = _MOST_BYTES
        self._scripts_left = _MOST_SCRIPTS
        self._found = Exposure()

    def read(self, system: Path) -> Exposure:
        for name, path in self._entries(system / UNITS):
            unit = name.removesuffix(".d")
            if not unit.endswith(".socket") and unit not in _SCRIPTS:
                continue
            parts = self._entries(path) if name.endswith(".d") else [(name, path)]
            for part, file in parts:
                text = self._text(f"{name}/{part}" if name.endswith(".d") else name, file)
                if unit.endswith(".socket"):
                    self._add_sockets(unit, text)
                else:
                    self._add_scripts(unit, text)
        activate = system / "activate"
        if os.path.lexists(activate):  # Up to 23.11 the activation made the programs with privileges.
            self._add_privileges("activate", self._text("activate", activate))
        return self._found

    def _add_sockets(self, unit: str, text: str) -> None:
        for key, address in self._assignments(unit, text):
            # A specifier (`%i`) may stand for anything, so it is told as it is.
            if key in _LISTEN and address and not address.startswith(("/", "@")):
                self._add(self._found.ports, f"{address} of {unit}", key)

    def _add_scripts(self, unit: str, text: str) -> None:
        for key, command in self._assignments(unit, text):
            words = command.lstrip(_EXEC_PREFIXES).split(maxsplit=1)
            if key not in _EXEC or not words:
                continue
            if self._scripts_left == 0:
                self._not_read(f"more than {_MOST_SCRIPTS} scripts")
                return
            self._scripts_left -= 1
            program = words[0]
            what = f"{unit}: {program}"
            script = self._text(what, Path(program))
            if unit == "suid-sgid-wrappers.service":
                self._add_privileges(what, script)
            else:
                self._add_openings(what, script)

    def _add_openings(self, what: str, script: str) -> None:
        for line in self._lines(what, script):
            words = line.split()
            if "nixos-fw" not in words or "nixos-fw-accept" not in words:
                continue
            options = dict(pairwise(words))
            protocol, port = options.get("-p"), options.get("--dport") or options.get("--dports")
            if protocol and port:
                self._add(self._found.ports, f"{protocol} {port} of the firewall", "let in")

    def _add_privileges(self, what: str, script: str) -> None:
        owners: dict[str, str] = {}
        found: dict[str, str] = {}
        for line in self._lines(what, script):
            words = [word.strip('"') for word in line.split()]
            if len(words) < _COMMAND_WORDS or not words[-1].startswith(_WRAPPERS):
                continue
            program, value = words[0].rpartition("/")[2], " ".join(words[1:-1])
            name = words[-1].removeprefix(_WRAPPERS)
            if program == "chown":
                owners[name] = value
            elif program == "chmod" and "+s" in value:
                found[name] = f"bits {value}"
            elif program == "setcap":
                found[name] = f"capabilities {value}"
        for name, privileges in found.items():
            self._add(self._found.programs, name, f"{privileges}, owner {owners.get(name, 'not known')}")

    def _add(self, facts: dict[str, str], name: str, value: str) -> None:
        if name in facts or len(facts) < _MOST_FACTS:
            facts[name] = value
        else:
            self._not_read(f"more than {_MOST_FACTS:,} privileges or ports")

    def _not_read(self, what: str) -> None:
        """Note a file, or the rest of several, as not read; a second time only for another one."""
        if what not in self._found.unread[-1:]:
            self._found.unread.append(what)

    def _assignments(self, unit: str, text: str) -> Iterator[tuple[str, str]]:
        """Yield the settings in a file of systemd's."""
        for line in self._lines(unit, text):
            key, equals, value = line.partition("=")
            if equals:
                yield key.rstrip(), value.lstrip()

    def _lines(self, what: str, text: str) -> Iterator[str]:
        """Yield the lines that are no comments, without blanks at their ends and with continued lines joined.

        A file with a line that is too long counts as not read; the other lines are yielded all the same.
        """
        parts: list[str] = []
        length = 0
        for line in text.translate(_LINE_ENDS).split("\n"):
            if line.lstrip().startswith(("#", ";")):
                continue  # A backslash at the end of a comment continues nothing.
            continued = (len(line) - len(line.rstrip("\\"))) % 2 == 1
            length += len(line)
            if length <= _LONGEST_LINE:
                parts.append(line[:-1] if continued else line)
            if continued:
                continue
            if length > _LONGEST_LINE:
                self._not_read(what)
            elif joined := " ".join(parts).strip():
                yield joined
            parts, length = [], 0
        if length:  # The file ends in a continued line.
            self._not_read(what)

    def _entries(self, directory: Path) -> Iterator[tuple[str, Path]]:
        real = Path(os.path.realpath(directory))
        if not real.is_relative_to(self._store) or not real.is_dir():
            if os.path.lexists(directory) and real != Path("/dev/null"):
                self._not_read(directory.name)
            return
        with os.scandir(real) as entries:
            found = [(entry.name, Path(entry.path)) for entry in islice(entries, self._entries_left + 1)]
        if len(found) > self._entries_left:
            self._not_read(f"more than {_MOST_ENTRIES:,} units")
            found.pop()
        self._entries_left -= len(found)
        yield from sorted(found)

    def _text(self, what: str, path: Path) -> str:
        """Return the text of a file in the store. Anything else is noted as not read."""
        real = Path(os.path.realpath(path))
        if real == Path("/dev/null"):
            return ""  # The unit is masked.
        most = min(_MOST_FILE_BYTES, self._bytes_left)
        try:
            if not real.is_relative_to(self._store):
                raise OSError("not in the store")
            content = read_bytes(real, most + 1)
        except OSError:
            self._not_read(what)
            return ""
        self._bytes_left -= min(len(content), most)
        if len(content) > most:
            self._not_read(what)
        return content[:most].decode(errors="replace")
