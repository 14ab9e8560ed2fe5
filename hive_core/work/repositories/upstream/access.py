"""The arguments, environment and helper programs of git for one upstream. Pure.

Git gets no setting but these: no file of settings, no hook, no redirect, no other protocol than https and ssh. A token
is given only as the answer to the question that git asks for the registered host, by a program (GIT_ASKPASS) that reads
it from a file. Neither a token nor a key is ever in an argument or a variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import SAFE
from hive_core.protocol import CredentialKind
from hive_core.work.repositories.upstream.source import Source

TOKEN_USER = "x-access-token"  # noqa: S105 - the name that goes with a token
"""The user that is named with a token if the URL names none: GitHub, GitLab and Forgejo take any."""
SECRET_VARIABLE = "HIVE_SECRET"  # noqa: S105 - the name of a variable with a path
"""The variable with the path of the file of the token or key, which the confinement sets."""
ASKPASS = "askpass"
KNOWN_HOSTS = "known_hosts"
_CONNECT_SECONDS = 20
_ALIVE_SECONDS = 20
_SLOW_BYTES = 500
_SLOW_SECONDS = 60

FLAGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.bigFileThreshold": "1m",
    "core.packedGitWindowSize": "1m",
    "core.packedGitLimit": "256m",
    "core.deltaBaseCacheLimit": "64m",
    "pack.threads": "2",
    "pack.windowMemory": "128m",
    "protocol.version": "2",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.ssh.allow": "always",
    "http.followRedirects": "false",
    "http.sslVerify": "true",
    "http.lowSpeedLimit": str(_SLOW_BYTES),
    "http.lowSpeedTime": str(_SLOW_SECONDS),
    "credential.helper": "",
    "transfer.unpackLimit": "1",
    "fetch.unpackLimit": "1",
    "transfer.fsckObjects": "false",  # It is checked by another git, which the upstream does not talk to.
    "transfer.bundleURI": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "push.recurseSubmodules": "no",
    "push.followTags": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}

_ASKPASS_SCRIPT = """\
#!/bin/sh
# The only questions with an answer are those that git asks for the registered server.
case "$1" in
"$HIVE_ASK_USER") printf '%s\\n' "$HIVE_USER" ;;
"$HIVE_ASK_PASSWORD") cat "$HIVE_SECRET" ;;
*) exit 1 ;;
esac
"""

_SSH = (
    "ssh",
    "-F /dev/null",
    "-o BatchMode=yes",
    "-o StrictHostKeyChecking=yes",
    "-o GlobalKnownHostsFile=/dev/null",
    "-o UpdateHostKeys=no",
    "-o CheckHostIP=no",
    "-o VerifyHostKeyDNS=no",
    "-o CanonicalizeHostname=no",
    "-o IdentitiesOnly=yes",
    "-o IdentityAgent=none",
    "-o PreferredAuthentications=publickey",
    "-o ForwardAgent=no",
    "-o ForwardX11=no",
    "-o ClearAllForwardings=yes",
    "-o PermitLocalCommand=no",
    "-o ControlPath=none",
    f"-o ConnectTimeout={_CONNECT_SECONDS}",
    f"-o ServerAliveInterval={_ALIVE_SECONDS}",
    "-o ServerAliveCountMax=3",
    "-o LogLevel=ERROR",
)


@dataclass(frozen=True)
class UpstreamAccess:
    """An upstream with what is needed to reach it: the secret and its kind, and the keys of its SSH server.

    `received` gets the number of bytes that a transfer has brought since it was called last.
    """

    source: Source
    kind: CredentialKind = "none"
    secret: bytes | None = None
    host_keys: tuple[str, ...] = ()
    received: Callable[[int], None] = field(default=lambda _: None, compare=False)

    def __repr__(self) -> str:
        return f"UpstreamAccess({self.source.url!r}, {self.kind!r})"

    def check(self) -> None:
        """Raise HiveError `bad_credential` or `host_key_unknown` if the transfer could not even begin."""
        if self.kind != "none" and self.secret is None:
            hint = "give it again: hive-c0re repo set NAME --token - or --ssh-key FILE"
            raise HiveError("bad_credential", "the credential of the repository is gone", hint=hint)
        if self.source.scheme == "ssh" and not self.host_keys:
            hint = "hive-c0re repo set NAME --scan-host-keys shows the keys of the server and asks"
            raise HiveError("host_key_unknown", f"no SSH key of {self.source.host} is accepted", hint=hint)

    def files(self) -> Mapping[str, tuple[str, int]]:
        """Return the helper files of a transfer: name, text and mode. None of them is secret."""
        known = "".join(f"{line}\n" for line in self.host_keys)
        return {ASKPASS: (_ASKPASS_SCRIPT, 0o755), KNOWN_HOSTS: (known, 0o644)}

    def environment(self, directory: Path) -> dict[str, str]:
        """Return the environment of git, where `directory` holds the helper files."""
        source = self.source
        user = source.user or (TOKEN_USER if self.kind == "token" else "")
        asked = f"{user}@{source.server}" if user else source.server
        ssh = [*_SSH, f"-o UserKnownHostsFile={directory / KNOWN_HOSTS}"]
        if self.kind == "ssh-key":
            ssh.append(f'-i "${SECRET_VARIABLE}"')
        return {
            **SAFE,
            "GIT_SSH_COMMAND": " ".join(ssh),
            "GIT_SSH_VARIANT": "ssh",
            "GIT_ASKPASS": str(directory / ASKPASS) if self.kind == "token" else "/bin/false",
            "SSH_ASKPASS_REQUIRE": "never",
            "HIVE_USER": user,
            "HIVE_ASK_USER": f"Username for 'https://{source.server}': ",
            "HIVE_ASK_PASSWORD": f"Password for 'https://{asked}': ",
            "GIT_ALLOW_PROTOCOL": "https:ssh",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
        }


def git(*arguments: str) -> tuple[str, ...]:
    """Return the command line of git with the settings of a transfer."""
    return ("git", *(word for name, text in FLAGS.items() for word in ("-c", f"{name}={text}")), *arguments)
