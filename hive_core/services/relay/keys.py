"""The vendors' keys: files that only this process can read, and the order in which they are tried."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 16 * 1024
_KEY = re.compile(r"[!-~]{1,8192}")
_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE = 300.0


class KeyUnusable(Exception):
    """A key that cannot be used, with the reason, which has nothing of the key."""


class VendorKey:
    """One key. It is in no text that is made of this object."""

    __slots__ = ("_value", "name", "paused_until")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value
        self.paused_until = 0.0
        """The time of the loop until which another key is tried first."""

    def __repr__(self) -> str:
        return f"VendorKey({self.name!r})"

    def reveal(self) -> str:
        """Return the key itself, for the header of a request."""
        return self._value

    def pause(self, retry_after: str | None) -> None:
        """Try other keys first for the time that the vendor has asked for."""
        try:
            seconds = float(retry_after or _PAUSE_SECONDS)
        except ValueError:
            seconds = _PAUSE_SECONDS
        seconds = min(max(seconds, 1.0), _LONGEST_PAUSE) if seconds == seconds else _PAUSE_SECONDS
        self.paused_until = asyncio.get_running_loop().time() + seconds


def in_order(keys: Sequence[VendorKey]) -> list[VendorKey]:
    """Return keys in the order in which they are tried: those that are paused last."""
    now = asyncio.get_running_loop().time()
    return sorted(keys, key=lambda key: key.paused_until > now)


@dataclass(frozen=True)
class KeyDirectory:
    """The directory of the keys. With `of_systemd` it is one that systemd has made for this unit (LoadCredential=)."""

    path: Path
    of_systemd: bool = False

    def read(self, name: str) -> VendorKey:
        """Read a key. Raises `KeyUnusable`.

        The file must be readable by its owner only, who is this process or root, and hold one line.
        """
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise KeyUnusable(f"the credential {name} cannot be read: {os.strerror(error.errno or 0)}") from None
        try:
            self._check(name, os.fstat(descriptor))
            content = os.read(descriptor, _MOST_BYTES + 1)
        finally:
            os.close(descriptor)
        value = content.decode("ascii", "replace").strip()
        if len(content) > _MOST_BYTES or _KEY.fullmatch(value) is None:
            raise KeyUnusable(f"the credential {name} is not one line of printable ASCII")
        return VendorKey(name, value)

    def _check(self, name: str, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise KeyUnusable(f"the credential {name} is no file of this process or of root")
        # systemd lets the user of a unit read its files by an access list, which shows as bits of the group (acl(5)).
        if found.st_mode & (0o037 if self.of_systemd else 0o077):
            raise KeyUnusable(f"the credential {name} can be read by others: give it the mode 0600")
