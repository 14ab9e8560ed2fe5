"""Input of credentials and of the keys of SSH servers. No secret is taken from an argument."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.output import is_interactive
from hive_core.text import escaped_line, shown

_MAX_BYTES = 32 * 1024
_SCAN_SECONDS = 60.0


def read_secrets(client: Client, source: str, options: dict[str, Any]) -> dict[str, str]:
    """Return the fields with the token or key that the options ask for. A token as an argument is refused."""
    token, ssh_key, login = options["token"], options["ssh_key"], options["login"]
    if sum(bool(each) for each in (token, ssh_key, login)) > 1:
        raise click.UsageError("Give one of --token, --ssh-key and --login.")
    if token:
        if token != "-":  # noqa: S105 - it stands for stdin
            raise click.UsageError("Everybody can read arguments: give the token on stdin, with --token -.")
        return {"token": _read_token()}
    if ssh_key:
        return {"ssh_key": _read_key(Path(ssh_key).expanduser())}
    if login:
        from hive_core.cli.commands.work.github_login import sign_in  # noqa: PLC0415 - few need it

        return {"token": sign_in(client, urlsplit(source).hostname or "")}
    return {}


def _read_token() -> str:
    if sys.stdin.isatty():
        text = click.prompt("Token", hide_input=True, err=True, prompt_suffix=": ")
        return str(text).strip()
    text = sys.stdin.buffer.read(_MAX_BYTES + 1).decode(errors="replace").strip()
    if not text:
        raise Failure("bad_credential", "there is no token on stdin", hint="pipe it in: gh auth token | hive-c0re repo")
    return text


def _read_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1).decode(errors="replace")
    except OSError as error:
        raise Failure("bad_credential", f"cannot read {shown(str(path))}: {error.strerror}") from None


def is_ssh(source: str) -> bool:
    """Return True for a URL that is reached over ssh."""
    return source.startswith("ssh://") or ("://" not in source and re.match(r"[^/]*:", source) is not None)


def accept_host_keys(client: Client, source: str, fingerprints: Sequence[str]) -> dict[str, list[str]]:
    """Return the field with the keys of the SSH server that the person accepts; nothing for https.

    With `fingerprints` those keys are accepted, else the person is asked. Raises Failure `host_key_unknown`.
    """
    if not is_ssh(source):
        if fingerprints:
            raise click.UsageError("--host-key is for ssh URLs.")
        return {}
    answer = client.post("/v1/host-keys", {"source": source}, wait=_SCAN_SECONDS)
    host, keys = escaped_line(str(answer["host"])), answer["keys"]
    if fingerprints:
        wanted = {each if each.startswith("SHA256:") else f"SHA256:{each}" for each in fingerprints}
        found = [key for key in keys if key["fingerprint"] in wanted]
        if not found:
            seen = ", ".join(key["fingerprint"] for key in keys)
            why = f"{host} shows none of these keys, but {escaped_line(seen)}"
            raise Failure("host_key_unknown", why, hint="do not go on unless you know why")
        return {"host_keys": [key["line"] for key in found]}
    click.echo(f"{host} shows these keys, which its operator or its documentation should confirm:", err=True)
    for key in keys:
        click.echo(f"  {escaped_line(key['type'])} {escaped_line(key['fingerprint'])}", err=True)
    if not is_interactive():
        hint = "add --host-key with the fingerprint that is right"
        raise Failure("host_key_unknown", f"nobody has accepted a key of {host}", hint=hint)
    if not click.confirm("Are they right?", default=False, err=True):
        raise Failure("host_key_unknown", f"no key of {host} was accepted", hint="nothing was changed")
    return {"host_keys": [key["line"] for key in keys]}
