"""The form of a new agent as the request of a spawn. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import get_args

from hive_core.protocol.base import Backend
from hive_core.services.dashboard.pages.lifecycle.acting import read_number

BACKENDS: tuple[str, ...] = get_args(Backend)
FIRST_FIELDS: dict[str, str] = {
    "name": "",
    "backend": "claude",
    "model": "",
    "provider": "",
    "prompt": "",
    "packages": "",
    "network": "sealed",
    "allowed_hosts": "",
    "allowed_recipients": "",
    "memory_max": "",
    "disk_max": "",
    "cpu_quota": "",
    "tasks_max": "",
    "money_per_day": "",
    "money_total": "",
    "agent_nix": "",
    "start": "yes",
}
"""The fields of the form, as it is shown at first."""
_LISTS = ("allowed_hosts", "allowed_recipients")
_SIZES = ("memory_max", "disk_max")
_COUNTS = ("cpu_quota", "tasks_max")
_MONEY = ("money_per_day", "money_total")


def spawn_request(fields: Mapping[str, str], repositories: Sequence[str] = ()) -> dict[str, object]:
    """Return the body of a spawn; what is left empty is left to the defaults. Raises `bad_number`.

    The daemon checks all of it: names, sizes, ceilings, and what is not known.
    """
    config: dict[str, object] = {key: text for key in ("backend", "model", "provider") if (text := _text(fields, key))}
    config |= {"network": "host"} if fields.get("network") == "host" else {}
    config |= {key: words for key in _LISTS if (words := split_words(fields.get(key, "")))}
    config |= {key: text.upper() for key in _SIZES if (text := _text(fields, key))}
    config |= {key: number for key in _COUNTS if (number := read_number(fields, key, int)) is not None}
    config |= {"repos": list(repositories)} if repositories else {}
    budget = {key: money for key in _MONEY if (money := read_number(fields, key, float)) is not None}
    config |= {"budget": budget} if budget else {}
    request: dict[str, object] = {"name": _text(fields, "name"), "config": config}
    request |= {"prompt": prompt} if (prompt := _lines(fields.get("prompt", ""))) else {}
    request |= {"packages": words} if (words := split_words(fields.get("packages", ""))) else {}
    request |= {"agent_nix": f"{nix}\n"} if (nix := _lines(fields.get("agent_nix", ""))) else {}
    return request | ({} if fields.get("start") == "yes" else {"start": False})


def split_words(text: str) -> list[str]:
    """Return the words of a field, which people separate by spaces, commas or lines; each once."""
    return list(dict.fromkeys(word for word in re.split(r"[\s,]+", text) if word))


def _text(fields: Mapping[str, str], key: str) -> str:
    return fields.get(key, "").strip()


def _lines(text: str) -> str:
    """Return a text as files have it: browsers send CR LF for each line (HTML standard, "form submission")."""
    return text.replace("\r\n", "\n").strip("\n")
