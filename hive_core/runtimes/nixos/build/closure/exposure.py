"""The exposure of a system: programs with privileges, ports of its socket units, and openings of its firewall.

The facts are read from the built system, not from the configuration, because the system is what runs. NixOS makes its
programs with privileges and its firewall with scripts that two units start (nixpkgs:
nixos/modules/security/wrappers/default.nix and nixos/modules/services/networking/firewall-iptables.nix). A service can
listen or set such bits without a socket unit or those scripts, so the facts are no proof that there is nothing else.
What is there but could not be read is counted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from hive_core.infra.files import read_bytes
from hive_core.text import one_line

UNITS = Path("etc/systemd/system")
MOST = 60
"""The highest number of lines; more are counted."""
_MOST_ENTRIES = 5_000
_MOST_FILE_BYTES = 256 * 1024
_MOST_BYTES = 8 * 1024 * 1024
_WIDTH = 300
_LISTEN = re.compile(r"^\s*(Listen(?:Stream|Datagram|SequentialPacket))\s*=\s*(\S.*?)\s*$", re.MULTILINE)
_EXEC = re.compile(r"^\s*Exec(?:Start|StartPre|StartPost|Reload)\s*=\s*[-@:+!|]*(\S+)", re.MULTILINE)
_NAME = r'"?\$wrapperDir/(?P<name>[^"\s]+)"?'
_OWNER = re.compile(rf"^\s*chown\s+(?P<owner>\S+)\s+{_NAME}\s*$", re.MULTILINE)
_BITS = re.compile(rf"^\s*chmod\s+\"?(?P<bits>[^\"\s]*\+s[^\"\s]*)\"?\s+{_NAME}\s*$", re.MULTILINE)
_CAPABILITIES = re.compile(rf"^\s*\S*setcap\s+\"?(?P<capabilities>[^\"\s]+)\"?\s+{_NAME}\s*$", re.MULTILINE)
_OPENING = re.compile(r"nixos-fw\b.*?-p\s+(tcp|udp)\b.*?--dport\s+([0-9:]+).*nixos-fw-accept")
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
            self._add_privileges(self._text("activate", activate))
        return self._found

    def _add_sockets(self, unit: str, text: str) -> None:
        for kind, address in _LISTEN.findall(text):
            if not address.startswith(("/", "@", "%")):
                self._found.ports[f"{address} of {unit}"] = kind

    def _add_scripts(self, unit: str, text: str) -> None:
        for program in _EXEC.findall(text):
            script = self._text(f"{unit}: {program}", Path(program))
            if unit == "suid-sgid-wrappers.service":
                self._add_privileges(script)
            else:
                for protocol, port in _OPENING.findall(script):
                    self._found.ports[f"{protocol} {port} of the firewall"] = "let in"

    def _add_privileges(self, script: str) -> None:
        owners = {found["name"]: found["owner"] for found in _OWNER.finditer(script)}
        for pattern, key in ((_BITS, "bits"), (_CAPABILITIES, "capabilities")):
            for found in pattern.finditer(script):
                name = found["name"]
                self._found.programs[name] = f"{key} {found[key]}, owner {owners.get(name, 'not known')}"

    def _entries(self, directory: Path) -> Iterator[tuple[str, Path]]:
        real = Path(os.path.realpath(directory))
        if not real.is_relative_to(self._store) or not real.is_dir():
            if os.path.lexists(directory) and real != Path("/dev/null"):
                self._found.unread.append(directory.name)
            return
        with os.scandir(real) as entries:
            found = [(entry.name, Path(entry.path)) for entry in islice(entries, self._entries_left + 1)]
        if len(found) > self._entries_left:
            self._found.unread.append(f"more than {_MOST_ENTRIES:,} units")
            found.pop()
        self._entries_left -= len(found)
        yield from sorted(found)

    def _text(self, what: str, path: Path) -> str:
        """Return the text of a file in the store, with continued lines joined. Anything else is noted as not read."""
        real = Path(os.path.realpath(path))
        if real == Path("/dev/null"):
            return ""  # The unit is masked.
        most = min(_MOST_FILE_BYTES, self._bytes_left)
        try:
            if not real.is_relative_to(self._store):
                raise OSError("not in the store")
            content = read_bytes(real, most + 1)
        except OSError:
            self._found.unread.append(what)
            return ""
        self._bytes_left -= min(len(content), most)
        if len(content) > most:
            self._found.unread.append(what)
        return content[:most].decode(errors="replace").replace("\\\n", " ")
