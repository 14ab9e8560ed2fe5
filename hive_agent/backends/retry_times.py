"""The time after which a model's API accepts requests again, found in its error message. No I/O.

Services write it as a duration (`8h44m7s`, `5 days 22 hours`, `"retryDelay": "38.5s"`, `PT5M`), as seconds since 1970,
or as a date or time of day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_LONGEST_SECONDS = 366 * 86_400.0
_ROUNDED_SECONDS = 60.0
"""A time of day that was up to so long ago is the present one: it has no seconds. The next minute is waited for."""
_ANNOUNCED = r"(?:retry|try(?:ing)? again|wait|reset|regain access|available|until|limit reached)"
"""The words before the time. A digit between them and the time belongs to something else."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_UNIT = (
    r"(?:ms|milliseconds?|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?)(?![A-Za-z])"
)
_PART = rf"(\d+(?:\.\d+)?) ?({_UNIT})"
_PARTS = re.compile(rf"(?i){_PART}")
_DURATION = re.compile(rf"(?i){_ANNOUNCED}[^\d]{{0,40}}?((?:{_PART}(?:,? and |, | )?)+)")
_ISO_DURATION = re.compile(
    rf"(?i){_ANNOUNCED}[^\d]{{0,40}}?\bP(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?(?![A-Za-z\d])"
)
_SECONDS = re.compile(r"(?i)(?:retry[-_ ]?after|in_seconds)[\\\"':= ]*(\d+(?:\.\d+)?)(?![\d.:-]*[\w:])")
_EPOCH = re.compile(rf"(?i){_ANNOUNCED}[^\d]{{0,20}}(\d{{10}}|\d{{13}})(?!\d)")
_TIMESTAMP = re.compile(
    rf"(?i){_ANNOUNCED}[^\d]{{0,40}}(\d{{4}}-\d\d-\d\d)(?:T| at | )(\d\d:\d\d(?::\d\d)?)(?:\.\d+)? ?"
    r"(Z|UTC|[+-]\d\d:?\d\d)?"
)
_CLOCK = r"(\d{1,2})(?::(\d\d))? ?([ap])\.?m\b\.?(?: ?\(([A-Za-z_+/-]+\d*)\))?"
_DATE = re.compile(
    rf"(?i){_ANNOUNCED}[^\d]{{0,20}}?\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* "
    rf"(\d{{1,2}})(?:st|nd|rd|th)?,?(?: (\d{{4}}))?,?(?: at)? {_CLOCK}"
)
_TIME = re.compile(rf"(?i){_ANNOUNCED}[^\d]{{0,20}}?\b{_CLOCK}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def find_seconds(message: str, now: float) -> float | None:
    """Find the seconds from `now` (since 1970) after which a new attempt makes sense; None if the message has none.

    A time without a time zone is one of this machine.
    """
    for seconds in _candidates(message, now):
        if 0 < seconds <= _LONGEST_SECONDS:
            return seconds
    return None


def _candidates(message: str, now: float) -> Iterator[float]:
    for found in _DURATION.finditer(message):
        yield sum(float(number) * _unit_seconds(unit) for number, unit in _PARTS.findall(found[1]))
    for found in _SECONDS.finditer(message):
        yield float(found[1])
    for found in _ISO_DURATION.finditer(message):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        yield ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    for found in _EPOCH.finditer(message):
        yield float(found[1]) / (1_000 if len(found[1]) == 13 else 1) - now
    for found in _TIMESTAMP.finditer(message):
        yield _timestamp(found) - now
    for found in _DATE.finditer(message):
        yield _date(found, now) - now
    for found in _TIME.finditer(message):
        yield _time_of_day(found, now) - now


def _unit_seconds(unit: str) -> float:
    unit = unit.lower()
    return _UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]]


def _timestamp(found: re.Match[str]) -> float:
    zone = (found[3] or "").upper().replace("UTC", "+00:00").replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}").timestamp()
    except ValueError:
        return 0.0


def _date(found: re.Match[str], now: float) -> float:
    """The time of a date; without a year, it is the next one. A time that has just come is as for a time of day."""
    month, day = _MONTHS.index(found[1].lower()) + 1, int(found[2])
    zone = _zone(found[7])
    this_year = datetime.fromtimestamp(now, zone).year
    years = [int(found[3])] if found[3] else [this_year, this_year + 1]
    for year in years:
        try:
            at = datetime(year, month, day, *_hour_and_minute(found[4], found[5], found[6]), tzinfo=zone)
        except ValueError:
            continue
        if at.timestamp() > now:
            return at.timestamp()
        if now < at.timestamp() + _ROUNDED_SECONDS:
            return at.timestamp() + _ROUNDED_SECONDS
    return 0.0


def _time_of_day(found: re.Match[str], now: float) -> float:
    """The next time at which a clock shows this; if it shows it now, the end of the minute."""
    at = datetime.fromtimestamp(now, _zone(found[4]))
    try:
        hour, minute = _hour_and_minute(found[1], found[2], found[3])
        at = at.replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError:
        return 0.0
    if at.timestamp() <= now < at.timestamp() + _ROUNDED_SECONDS:
        return at.timestamp() + _ROUNDED_SECONDS
    return (at if at.timestamp() > now else at + timedelta(days=1)).timestamp()


def _hour_and_minute(hour: str, minute: str | None, half: str) -> tuple[int, int]:
    return int(hour) % 12 + (12 if half.lower() == "p" else 0), int(minute or 0)


def _zone(name: str | None) -> tzinfo | None:
    """The time zone of this name; that of this machine (None) if there is no name, UTC if it is unknown."""
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC
