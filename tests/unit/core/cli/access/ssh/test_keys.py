"""The keys and settings for OpenSSH."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from hive_core.cli.access.ssh.keys import key_directory, make_keys, read_keys, render_config
from hive_core.cli.errors import Failure


def modes(directory: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()}


def test_keys_are_made_once_and_belong_to_their_owner(tmp_path: Path) -> None:
    """Keys are made when they are missing, and kept; nobody else can read the private ones."""
    directory = tmp_path / "of" / "ssh"
    make_keys(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert oct(stat.S_IMODE(directory.stat().st_mode)) == "0o700"
    assert modes(directory) == {
        "host_key": "0o600",
        "host_key.pub": "0o644",
        "id_ed25519": "0o600",
        "id_ed25519.pub": "0o644",
        "known_hosts": "0o644",
    }
    make_keys(directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert read_keys(directory).host != read_keys(directory).user


def test_missing_keys_say_what_makes_them(tmp_path: Path) -> None:
    """Without keys the proxy names the command that makes them."""
    with pytest.raises(Failure, match="cannot be read") as failure:
        read_keys(tmp_path)
    assert failure.value.hint == "hive-c0re ssh-config makes them"


def test_keys_are_in_the_callers_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is that of the XDG standard; a relative value does not count."""
    monkeypatch.setenv("HOME", "/home/eve")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/eve")
    assert key_directory() == Path("/etc/eve/hyperhive/ssh")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert key_directory() == Path("/home/eve/.config/hyperhive/ssh")


def test_openssh_understands_the_settings(tmp_path: Path) -> None:
    """OpenSSH reads the block as it is meant, also with spaces and percent signs in paths."""
    directory = tmp_path / "a b%c"
    make_keys(directory)
    (tmp_path / "config").write_text(render_config(directory, ["/opt/hive c0re", "--socket", "/run/x y"]))
    line = ["ssh", "-G", "-F", str(tmp_path / "config"), "hive-ada"]
    shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "proxycommand '/opt/hive c0re' --socket '/run/x y' ssh-proxy --host %n" in shown
    assert f"identityfile {str(directory / 'id_ed25519').replace('%', '%%')}" in shown or (
        f"identityfile {directory / 'id_ed25519'}" in shown
    )
    assert {"forwardagent no", "forwardx11 no", "stricthostkeychecking true", "user root"} <= set(shown)
    other = subprocess.run([*line[:-1], "other"], capture_output=True, text=True, check=True).stdout
    assert "proxycommand" not in other
