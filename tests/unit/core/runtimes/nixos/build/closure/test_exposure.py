"""The exposure of a system, read from hostile and from honest systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.closure import exposure
from hive_core.runtimes.nixos.build.closure.exposure import Exposure, differences, read_exposure

WRAPPERS = """\
chmod 755 "/run/wrappers"
wrapperDir=$(mktemp --directory --tmpdir="/run/wrappers" wrappers.XXXXXXXXXX)
cp {store}/x-security-wrapper-sudo/bin/security-wrapper "$wrapperDir/sudo"
# Prevent races
chmod 0000 "$wrapperDir/sudo"
chown root:root "$wrapperDir/sudo"
chmod "u+s,g-s,u+rx,g+x,o+x" "$wrapperDir/sudo"
chown root:shadow "$wrapperDir/chage"
chmod "u-s,g+s,u+rx,g+x,o+x" "$wrapperDir/chage"
chown root:root "$wrapperDir/plain"
chmod "u-s,g-s,u+rx,g+x,o+x" "$wrapperDir/plain"
chown root:root "$wrapperDir/ping"
{store}/x-libcap/bin/setcap "cap_setpcap,cap_net_raw+p" "$wrapperDir/ping"
chmod u+rx,g+x,o+x "$wrapperDir/ping"
"""
FIREWALL = """\
ip46tables -A nixos-fw -p tcp --dport 80 -j nixos-fw-accept
ip46tables -A nixos-fw -p udp --dport 1000:2000 -j nixos-fw-accept -i eth0
ip46tables -A nixos-fw -p tcp --dport 9 -j nixos-fw-log-refuse
"""
SCRIPTS = {"suid-sgid-wrappers": "wrappers", "firewall": "firewall"}


class Systems:
    """A store with systems in it, laid out as NixOS does."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.store.mkdir()

    def system(self, name: str, units: dict[str, str]) -> Path:
        system, files = self.store / name, self.store / f"{name}-units"
        (system / "etc/systemd").mkdir(parents=True)
        files.mkdir()
        (system / "etc/systemd/system").symlink_to(files)
        for unit, text in units.items():
            (files / unit).parent.mkdir(exist_ok=True)
            (files / unit).write_text(text)
        return system

    def script(self, name: str, text: str) -> str:
        """Store a script, and return the unit that runs it."""
        (self.store / name).write_text(text.format(store=self.store))
        return f"[Service]\nType=oneshot\nExecStart={self.store}/{name}\n"

    def read(self, system: Path) -> Exposure:
        return read_exposure(system, self.store)


@pytest.fixture
def systems(tmp_path: Path) -> Systems:
    return Systems(tmp_path.resolve())


def test_programs_with_privileges_are_told(systems: Systems) -> None:
    """Programs that run as another user or group or with capabilities are named, those without privileges are not."""
    units = {"suid-sgid-wrappers.service": systems.script("wrappers", WRAPPERS)}
    found = systems.read(systems.system("new", units))
    assert found.programs == {
        "sudo": "bits u+s,g-s,u+rx,g+x,o+x, owner root:root",
        "chage": "bits u-s,g+s,u+rx,g+x,o+x, owner root:shadow",
        "ping": "capabilities cap_setpcap,cap_net_raw+p, owner root:root",
    }
    assert found.unread == []


def test_ports_are_told(systems: Systems) -> None:
    """Addresses of the network in socket units, their drop-ins too, and openings of the firewall are named."""
    units = {
        "sshd.socket": "[Socket]\nListenStream=0.0.0.0:22\nListenStream=[::]:22\nListenStream=/run/ssh\n",
        "more.socket.d/x.conf": "[Socket]\n  ListenDatagram = \\\n 53\n",
        "local.socket": "[Socket]\nListenStream=@abstract\nListenFIFO=/run/x\nListenStream=\n",
        "any@.socket": "[Socket]\n# \\\nListenStream=%i\n#\rListenStream=7\nListenStream=\\\n# of\n8\n",
        "firewall.service": systems.script("firewall", FIREWALL),
        "text.service": "[Service]\nListenStream=99\n",
    }
    found = systems.read(systems.system("new", units))
    assert found.ports == {
        "0.0.0.0:22 of sshd.socket": "ListenStream",
        "[::]:22 of sshd.socket": "ListenStream",
        "53 of more.socket": "ListenDatagram",
        "%i of any@.socket": "ListenStream",
        "7 of any@.socket": "ListenStream",
        "8 of any@.socket": "ListenStream",
        "tcp 80 of the firewall": "let in",
        "udp 1000:2000 of the firewall": "let in",
    }


def test_differences_tell_programs_before_ports() -> None:
    """Each addition, removal and change has a line; names and values are escaped."""
    old = Exposure({"sudo": "bits u+s", "su": "bits u+s"}, {"22 of sshd.socket": "ListenStream"})
    new = Exposure({"sudo": "bits g+s", "evil\n\x1b[2J": "bits u+s"}, {"80 of web.socket": "ListenStream"})
    assert differences(old, new) == [
        "program with privileges added: evil \\x1b[2J (bits u+s)",
        "program with privileges removed: su",
        "program with privileges changed: sudo (bits u+s → bits g+s)",
        "port removed: 22 of sshd.socket",
        "port added: 80 of web.socket (ListenStream)",
    ]
    assert differences(new, new) == []
    assert differences(None, Exposure({"su": "bits u+s"})) == ["program with privileges added: su (bits u+s)"]


def test_many_are_counted_and_the_programs_stay() -> None:
    """A thousand ports push no program out of the lines."""
    many = Exposure({"sudo": "bits u+s"}, {f"{port} of x.socket": "ListenStream" for port in range(1_000)})
    lines = differences(None, many)
    assert len(lines) == exposure.MOST and lines[0].startswith("program with privileges added: sudo")
    assert lines[-1] == "and 942 more programs with privileges and ports"


def test_what_cannot_be_read_is_said_first(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit outside of the store, a pipe, a loop, a file that is too long and too many units hide nothing silently."""
    monkeypatch.setattr(exposure, "_MOST_FILE_BYTES", 100)
    new = systems.system("new", {"long.socket": "#" * 200 + "\nListenStream=1\n", "good.socket": "ListenStream=2\n"})
    files = systems.store / "new-units"
    (files / "away.socket").symlink_to("/etc/passwd")
    (files / "masked.socket").symlink_to("/dev/null")
    os.mkfifo(systems.store / "pipe")
    (files / "pipe.socket").symlink_to(systems.store / "pipe")
    (files / "loop.socket").symlink_to("loop.socket")
    (files / "suid-sgid-wrappers.service").write_text("ExecStart=/root/script\n")
    found = systems.read(new)
    assert sorted(found.unread) == [
        "away.socket",
        "long.socket",
        "loop.socket",
        "pipe.socket",
        "suid-sgid-wrappers.service: /root/script",
    ]
    assert found.ports == {"2 of good.socket": "ListenStream"}
    assert differences(None, found)[0].startswith("NOT READ, so its privileges and ports are not known: 5 files: ")
    monkeypatch.setattr(exposure, "_MOST_ENTRIES", 3)
    assert "more than 3 units" in systems.read(new).unread


def test_units_outside_of_the_store_are_said(systems: Systems, tmp_path: Path) -> None:
    """A directory of units elsewhere is not read, and not passed over."""
    system = systems.store / "odd"
    (system / "etc/systemd").mkdir(parents=True)
    (system / "etc/systemd/system").symlink_to(tmp_path)
    assert systems.read(system).unread == ["system"]


def test_long_lines_are_said(systems: Systems) -> None:
    """A line that is too long, also one of continued lines, makes its file NOT READ; the other lines are told."""
    long, many = "x" * 2_001, "x\\\n" * 2_001
    units = {
        "long.socket": f"ListenStream=1\nListenStream={long}\n",
        "many.socket": f"ListenStream=2\nListenStream={many}\nListenStream=3\n",
        "open.socket": "ListenStream=4\nListenStream=\\",
        "suid-sgid-wrappers.service": systems.script("wrappers", WRAPPERS + long),
        "firewall.service": systems.script("firewall", FIREWALL + long),
    }
    found = systems.read(systems.system("new", units))
    assert set(found.ports) >= {"1 of long.socket", "2 of many.socket", "3 of many.socket", "4 of open.socket"}
    assert "sudo" in found.programs
    scripts = [f"{unit}.service: {systems.store}/{name}" for unit, name in SCRIPTS.items()]
    assert sorted(found.unread) == sorted(["long.socket", "many.socket", "open.socket", *scripts])


def test_many_scripts_and_facts_are_said(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither scripts nor ports can be so many that reading or comparing them takes long."""
    monkeypatch.setattr(exposure, "_MOST_SCRIPTS", 3)
    monkeypatch.setattr(exposure, "_MOST_FACTS", 5)
    units = {
        "x.socket": "".join(f"ListenStream={port}\n" for port in range(9)),
        "firewall.service": systems.script("firewall", "") * 9,
    }
    found = systems.read(systems.system("new", units))
    assert len(found.ports) == 5
    assert found.unread == ["more than 3 scripts", "more than 5 privileges or ports"]
