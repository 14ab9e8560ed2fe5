"""A token of GitHub for the person who types: from `gh`, or by the device flow in the browser.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#device-flow
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import click

from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.text import escaped_line

_SECONDS = 30.0
_BYTES = 64 * 1024
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SCOPE = "repo"


def sign_in(client: Client, host: str) -> str:
    """Return a token for `host`. Raises Failure `no_login` if there is no way to get one."""
    if not host:
        raise Failure("no_login", "--login is for https URLs", hint="give --ssh-key FILE for this one")
    if (token := _token_of_gh(host)) is not None:
        click.echo(f"using the token of gh for {host}", err=True)
        return token
    client_id = str(client.get("/v1/repositories").get("github_client_id") or "")
    if not client_id:
        why = "gh is not installed or not signed in, and the setting repositories.github_client_id is empty"
        hint = f"run: gh auth login --hostname {host}, set the id of an app of yours, or give --token -"
        raise Failure("no_login", why, hint=hint)
    return device_flow(f"https://{host}", client_id)


def _token_of_gh(host: str) -> str | None:
    program = shutil.which("gh")
    if program is None:
        return None
    line = [program, "auth", "token", "--hostname", host]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def device_flow(base: str, client_id: str) -> str:
    """Let the person enter a code in the browser, and return the token. Raises Failure `no_login`."""
    begun = _post(f"{base}/login/device/code", {"client_id": client_id, "scope": _SCOPE})
    try:
        code, url, device = str(begun["user_code"]), str(begun["verification_uri"]), str(begun["device_code"])
        pause, left = float(begun.get("interval", 5)), float(begun.get("expires_in", 900))
    except (KeyError, TypeError, ValueError):
        raise _refused(begun) from None
    click.echo(f"open {escaped_line(url)} and enter the code {escaped_line(code)}", err=True)
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(pause)
        fields = {"client_id": client_id, "device_code": device, "grant_type": _GRANT}
        answer = _post(f"{base}/login/oauth/access_token", fields)
        if token := answer.get("access_token"):
            return str(token)
        if answer.get("error") == "slow_down":
            pause += 5
        elif answer.get("error") != "authorization_pending":
            raise _refused(answer)
    raise Failure("no_login", "the code was not entered in time", hint="try again")


def _refused(answer: dict[str, Any]) -> Failure:
    why = escaped_line(str(answer.get("error_description") or answer.get("error") or "its answer cannot be read"))
    return Failure("no_login", f"the server does not sign in: {why[:300]}", hint="give a token with --token -")


def _post(url: str, fields: dict[str, str]) -> dict[str, Any]:
    data = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(url, data, {"Accept": "application/json"})  # noqa: S310 - https of the caller
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310
            answer = json.loads(response.read(_BYTES))
    except (OSError, ValueError) as error:
        raise Failure("no_login", f"cannot sign in at {escaped_line(url)}: {escaped_line(str(error))}") from None
    return answer if isinstance(answer, dict) else {}
