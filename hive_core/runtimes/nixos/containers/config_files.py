"""A container's conf file: the lines that the hive owns are put in, every other line stays where and as it is.

systemd reads the file by the rules of EnvironmentFile= (systemd.exec(5)); `nixos-container` looks for single lines with
`^KEY=`, so what it reads too is not quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_KEY = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,?-]*")


def rewritten(text: str, owned: Mapping[str, str]) -> str:
    """`text` with exactly one line for every key of `owned`: where the first one was, or at the end. What is right
    already comes back unchanged. Raises ValueError for a value that no line can carry.
    """
    left = {key: _line(key, value) for key, value in owned.items()}
    kept: list[str] = []
    for part in _parts(text):
        key = _key(part)
        if key not in owned:
            kept.append(part)
        elif key in left:
            kept.append(left.pop(key))
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    if kept and kept[-1].endswith("\\\n"):
        kept[-1] += "\n"  # Or what is put behind it would be part of it.
    return "".join([*kept, *left.values()])


def value_in(text: str, key: str) -> str | None:
    """What systemd would find for `key`, as far as the hive writes such values; None if there is no such line."""
    found: str | None = None
    for part in _parts(text):
        match = _KEY.fullmatch(part.rstrip("\n"))
        if match is not None and match[1] == key:
            found = match[2].strip().strip('"')
    return found


def _parts(text: str) -> Iterator[str]:
    """The lines, each with those that a backslash at its end makes part of it."""
    part = ""
    for line in text.splitlines(keepends=True):
        part += line
        if not line.rstrip("\n").endswith("\\"):
            yield part
            part = ""
    if part:
        yield part


def _key(part: str) -> str | None:
    match = _KEY.fullmatch(part.rstrip("\n"))
    return None if match is None else match[1]


def _line(key: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{key}={value}\n"
    if not _PLAIN.fullmatch(value.replace(" ", "")):
        raise ValueError(f"{key} cannot hold {value!r}")
    return f'{key}="{value}"\n'
