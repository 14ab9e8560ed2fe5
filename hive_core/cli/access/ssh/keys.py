"""The keys and the settings with which OpenSSH on this machine reaches the hive's agents.

A proxy is a child of the ssh that calls it, so the keys protect from nothing but a wrong program at the other end: they
let `ssh` work without questions, and without an entry in anybody's own files.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from hive_core.cli.errors import Failure

PREFIX = "hive-"
"""Before the agent's name in the host names for ssh."""
_HOST_KEY, _USER_KEY, _KNOWN_HOSTS = "host_key", "id_ed25519", "known_hosts"


@dataclass(frozen=True)
class SshKeys:
    """The host key with which a proxy answers, and the public key that it expects of its caller."""

    host: asyncssh.SSHKey
    user: asyncssh.SSHKey


def key_directory() -> Path:
    """Return the directory of the keys: below the caller's own configuration."""
    home = os.environ.get("XDG_CONFIG_HOME") or ""
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".config") / "hyperhive" / "ssh"


def read_keys(directory: Path) -> SshKeys:
    """Read the keys that `make_keys` has made. Raises Failure `no_ssh_keys`."""
    try:
        host = asyncssh.read_private_key(directory / _HOST_KEY)
        user = asyncssh.read_public_key(directory / f"{_USER_KEY}.pub")
    except (OSError, asyncssh.KeyImportError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Failure(
            "no_ssh_keys", f"the keys in {directory} cannot be read: {reason}", hint="hive-c0re ssh-config makes them"
        ) from None
    return SshKeys(host, user)


def make_keys(directory: Path) -> None:
    """Make the keys that are missing, and the file of known hosts. Raises Failure `no_ssh_keys`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        for name in (_HOST_KEY, _USER_KEY):
            if not (directory / name).exists():
                key = asyncssh.generate_private_key("ssh-ed25519", comment=f"hyperhive {name}")
                _write(directory / f"{name}.pub", key.export_public_key(), 0o644)
                _write(directory / name, key.export_private_key(), 0o600)
        public = (directory / f"{_HOST_KEY}.pub").read_text().split()
        _write(directory / _KNOWN_HOSTS, f"{PREFIX}* {' '.join(public[:2])}\n".encode(), 0o644)
    except OSError as error:
        raise Failure(
            "no_ssh_keys",
            f"the keys in {directory} cannot be made: {error.strerror}",
            hint="XDG_CONFIG_HOME names another directory for configuration",
        ) from None


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that nobody else can read before it has its mode."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    fresh.replace(path)


def render_config(directory: Path, program: list[str]) -> str:
    """Return the block for `~/.ssh/config`; `program` is the command line of hive-c0re."""
    proxy = shlex.join([*program, "ssh-proxy", "--host"])
    lines = [
        f"Host {PREFIX}*",
        # OpenSSH replaces %n, and refuses names with characters that a shell would interpret.
        f"    ProxyCommand {proxy.replace('%', '%%')} %n",
        "    User root",
        f"    IdentityFile {_quoted(directory / _USER_KEY)}",
        "    IdentitiesOnly yes",
        f"    UserKnownHostsFile {_quoted(directory / _KNOWN_HOSTS)}",
        "    GlobalKnownHostsFile none",
        "    StrictHostKeyChecking yes",
        "    UpdateHostKeys no",
        "    Ciphers ^aes128-gcm@openssh.com",
        "    Compression no",
        "    ForwardAgent no",
        "    ForwardX11 no",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if any(character.isspace() for character in text) else text
