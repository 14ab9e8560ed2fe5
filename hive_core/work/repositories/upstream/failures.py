"""The reasons why a transfer failed, from the last lines of git's or ssh's errors. Pure.

An upstream chooses some of these lines. So messages are the hive's own, and quote at most one line.
"""

from __future__ import annotations

import re

from hive_core.errors import HiveError
from hive_core.infra.processes import describe_exit
from hive_core.infra.storage.disk_space import disk_full, reports_lack_of_space
from hive_core.text import printable_line

_QUOTED = 300
_CUT_OFF = "invalid index-pack output"
"""The last words of a fetch whose pack has become larger than a file may be."""
_CASES: tuple[tuple[str, str, str, str], ...] = (
    (
        r"\[rejected\]|non-fast-forward|fetch first",
        "upstream_moved",
        "upstream's branch has commits that the pushed one lacks",
        "fetch, bring the branches together, and push again; the hive never overwrites",
    ),
    (
        r"not our ref|unadvertised object",
        "upstream_moves",
        "upstream has changed since it was asked for its refs",
        "try again when less is pushed to it",
    ),
    (
        r"\[remote rejected\]|pre-receive hook declined|protected branch",
        "push_refused",
        "the server refuses the pushed branch",
        "see its rules for branches, and what the credential may do",
    ),
    (
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No \S+ host key is known",
        "host_key_changed",
        "the server has shown another SSH key than the accepted ones",
        "find out why; then accept the new keys: hive-c0re repo set NAME --scan-host-keys",
    ),
    (
        r"could not read (Username|Password)|Authentication failed|terminal prompts disabled|"
        r"Permission denied \(|HTTP Basic: Access denied|error: 40[13]\b|unable to read askpass",
        "upstream_refused",
        "the server does not let the hive in with the repository's credential",
        "give another: hive-c0re repo set NAME --token - or --ssh-key FILE",
    ),
    (
        r"[Uu]nable to update url base from redirection|error: 30[1278]\b|redirect",
        "upstream_redirects",
        "the server redirects to another address, which the hive does not follow",
        "register the address that it redirects to, if you trust it",
    ),
    (
        r"not found|does not appear to be a git repository|error: 404|Repository does not exist|access rights",
        "upstream_missing",
        "the server has no such repository, or does not show it without a credential",
        "check the URL; a private repository needs --token or --ssh-key",
    ),
    (
        r"Could not resolve|Name or service not known|Temporary failure in name resolution|Connection refused|"
        r"Failed to connect|Couldn't connect|No route to host|Network is unreachable|[Cc]onnection timed out|"
        r"Connection closed by|Connection reset",
        "upstream_unreachable",
        "the server cannot be reached",
        "check the name, the network and the proxy of this host; the fetch is tried again later",
    ),
    (
        r"SSL|certificate|[Tt]LS",
        "upstream_unreachable",
        "no secure connection to the server could be made",
        "check its certificate; SSL_CERT_FILE in the daemon's environment names other authorities",
    ),
    (
        r"Operation too slow|[Tt]imeout|timed out",
        "upstream_slow",
        "the server sends next to nothing",
        "try again later",
    ),
    (
        r"No user exists for uid",
        "transfer_failed",
        "ssh does not find the unit's user on this host",
        "install the package libnss-systemd, or create the account hyperhive-upstream",
    ),
)


def explain(status: int, output: str, *, file_bytes: int, room: bool) -> HiveError:
    """Return the error for a transfer that ended with `status`; `room` tells whether the disk has space."""
    if reports_lack_of_space(output, status) or _CUT_OFF in output:
        if not room:
            return disk_full("store what upstream sends")
        why = f"upstream sends more than the {file_bytes // 1024**2:,} MiB that are allowed"
        hint = "raise repositories.transfer_bytes in the settings if that much is right"
        return HiveError("upstream_too_large", why, hint=hint, status=502)
    line = _last_line(output)
    said = f': it says "{printable_line(line, _QUOTED)}"' if line else ""
    for pattern, code, why, hint in _CASES:
        if re.search(pattern, output):
            return HiveError(code, f"{why}{said}", hint=hint, status=502)
    hint = "see the daemon's log; the fetch is tried again later"
    return HiveError("transfer_failed", f"git failed ({describe_exit(status)}){said}", hint=hint, status=502)


def _last_line(output: str) -> str:
    """Return the line that says most: the last of those that git marks as fatal, else the last one."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    marked = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ERROR:"))]
    return (marked or lines or [""])[-1]
