"""Names of units as D-Bus object paths, and back (sd_bus_path_encode(3)), and of paths in units' names."""

from __future__ import annotations

import re

_UNITS = "/org/freedesktop/systemd1/unit/"
_NAME = re.compile(r"[A-Za-z0-9@:._\\-]{1,255}")
_ESCAPED = re.compile(r"_([0-9a-f]{2})")


def unit_path(unit: str) -> str:
    """The object of a unit. Raises ValueError for what is no unit's name."""
    if _NAME.fullmatch(unit) is None:
        raise ValueError(f"no unit can be named {unit!r}")
    escaped = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)
    if escaped[0].isdigit():
        escaped = f"_{ord(escaped[0]):02x}{escaped[1:]}"
    return _UNITS + escaped


def escaped(text: str) -> str:
    """A component of a path as it stands in the name of the path's unit (systemd.unit(5), "String Escaping")."""
    return re.sub(r"[^A-Za-z0-9:_.]|^\.", lambda found: f"\\x{ord(found[0]):02x}", text)


def unit_name(path: str) -> str | None:
    """The unit whose object `path` is; None if it is none."""
    if not path.startswith(_UNITS):
        return None
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path.removeprefix(_UNITS))
