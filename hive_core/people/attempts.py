"""The limits of attempts to sign in, which slow those down who guess and keep nobody out who is known.

An attempt counts when it begins, so that attempts side by side do not get past a limit, and is taken back when the
password was right. Three counts are kept:

- For a name at an address: after 5 wrong passwords the next attempt has to wait, twice as long each time.
- For a name at all addresses, and for an address with all names: a number that decays with time.

The last two do not hold for a name at an address from which that person has signed in before, so that others who guess
cannot keep the person out. There the longest wait is 30 seconds. An address is what the dashboard claims.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

_FREE = 5
"""Wrong passwords without a wait."""
_LONGEST_WAIT = 15 * 60_000
_LONGEST_KNOWN_WAIT = 30_000
_FORGET = 24 * 3_600_000
"""Time without an attempt after which those of a name at an address are forgotten."""
_PAIRS = 4_096
_KNOWN_FOR = 90 * 24 * 3_600_000
"""Time for which an address stays known."""


class TooSoon(Exception):
    """An attempt has to wait for so many seconds."""

    def __init__(self, milliseconds: int) -> None:
        super().__init__(milliseconds)
        self.seconds = max(1, -(-milliseconds // 1_000))


@dataclass
class _Pair:
    failures: int = 0
    next_at: int = 0
    last: int = 0


@dataclass
class _Level:
    """A count that decays by one in each `interval`."""

    count: float = 0.0
    at: int = 0

    def now(self, now: int, interval: int) -> float:
        """Return the count, which is brought up to date."""
        self.count = max(0.0, self.count - (now - self.at) / interval)
        self.at = now
        return self.count


class _Levels:
    """Counts by key that decay; the ones that were used longest ago are forgotten."""

    def __init__(self, most: float, interval: int, entries: int) -> None:
        self._most = most
        self._interval = interval
        self._entries = entries
        self._levels: OrderedDict[str, _Level] = OrderedDict()

    def wait(self, key: str, now: int) -> int:
        """Return the milliseconds until one more is within the limit."""
        level = self._levels.get(key)
        over = 0.0 if level is None else level.now(now, self._interval) + 1 - self._most
        return max(0, int(over * self._interval))

    def add(self, key: str, now: int, number: float) -> None:
        level = self._levels.setdefault(key, _Level(0.0, now))
        level.count = max(0.0, level.now(now, self._interval) + number)
        self._levels.move_to_end(key)
        while len(self._levels) > self._entries:
            self._levels.popitem(last=False)


class Attempts:
    """The counts of attempts, in memory, within bounds. Times are in milliseconds, and never go back."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        # Names that nobody has are counted apart, so that they push no person's count out.
        self._by_person = _Levels(30, 60_000, 100_000)
        self._by_unknown_name = _Levels(30, 60_000, 4_096)
        self._by_address = _Levels(100, 10_000, 4_096)
        self._known: dict[tuple[str, str], int] = {}

    def know(self, name: str, address: str, at: int) -> None:
        """Note that the person has signed in from the address."""
        self._known[name, address] = at

    def forget(self, name: str) -> None:
        """Forget the addresses of a person whose account was removed."""
        self._known = {key: at for key, at in self._known.items() if key[0] != name}

    def is_known(self, name: str, address: str, now: int) -> bool:
        """Return True if the person has signed in from the address lately."""
        at = self._known.get((name, address))
        return at is not None and now - at < _KNOWN_FOR

    def begin(self, name: str, address: str, now: int, *, is_person: bool) -> None:
        """Count an attempt as one with a wrong password, until `succeed` or `take_back`. Raises TooSoon."""
        known = self.is_known(name, address, now)
        pair = self._pairs.get((name, address))
        if pair is not None and now - pair.last >= _FORGET:
            pair = None
        names = self._by_person if is_person else self._by_unknown_name
        wait = 0 if pair is None else pair.next_at - now
        if not known:
            wait = max(wait, names.wait(name, now), self._by_address.wait(address, now))
        if wait > 0:
            raise TooSoon(wait)
        pair = pair or _Pair()
        pair.failures += 1
        pair.last = now
        pair.next_at = now + _wait(pair.failures, _LONGEST_KNOWN_WAIT if known else _LONGEST_WAIT)
        self._pairs[name, address] = pair
        self._pairs.move_to_end((name, address))
        while len(self._pairs) > _PAIRS:
            self._pairs.popitem(last=False)
        if not known:
            names.add(name, now, 1)
            self._by_address.add(address, now, 1)

    def take_back(self, name: str, address: str, now: int, *, is_person: bool) -> None:
        """Take an attempt back whose password was not looked at."""
        pair = self._pairs.get((name, address))
        if pair is not None:
            pair.failures = max(0, pair.failures - 1)
            pair.next_at = 0
        if not self.is_known(name, address, now):
            (self._by_person if is_person else self._by_unknown_name).add(name, now, -1)
            self._by_address.add(address, now, -1)

    def succeed(self, name: str, address: str, now: int) -> None:
        """Note that the password of the attempt was right."""
        self.take_back(name, address, now, is_person=True)
        self._pairs.pop((name, address), None)
        self.know(name, address, now)


def _wait(failures: int, longest: int) -> int:
    """Return the wait after so many wrong passwords."""
    if failures < _FREE:
        return 0
    return min(longest, 1_000 << min(failures - _FREE, 30))


def clean_address(claimed: str) -> str:
    """Return an address as it is kept and shown; "" for a text that is none."""
    try:
        found = ipaddress.ip_address(claimed)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.IPv6Address(int(found)))
    return str(found)


def bucket(address: str) -> str:
    """Return the address under which attempts from a clean address count: who has one of IPv6 has 2^64 of them."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((int(ipaddress.IPv6Address(address)), 64), strict=False))
