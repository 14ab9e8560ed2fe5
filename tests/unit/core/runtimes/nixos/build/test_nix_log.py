"""What Nix's own log becomes for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.runtimes.nixos.build.nix_log import ERROR_CHARACTERS, RECORD, SAID_CHARACTERS, NixLogFormatter

HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"


class Reading:
    """Feeds records and collects what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.formatter = NixLogFormatter(self.said.append)

    def record(self, **fields: Any) -> None:
        self.formatter.feed(RECORD + json.dumps(fields))

    def start(self, number: int, kind: int, *fields: object, text: str = "") -> None:
        self.record(action="start", id=number, type=kind, fields=list(fields), level=3, text=text)

    def result(self, number: int, kind: int, *fields: object) -> None:
        self.record(action="result", id=number, type=kind, fields=list(fields))

    def message(self, level: int, text: str) -> None:
        self.record(action="msg", level=level, msg=text)


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_builds_are_counted_down(reading: Reading) -> None:
    """Each build is told when it starts, with how many are left, as Nix tells right after it."""
    reading.start(1, 104)
    reading.start(2, 103)
    for number, name in enumerate(("git-2.50", "nixos-system-ada")):
        reading.start(10 + number, 105, f"/nix/store/{HASH}-{name}.drv", "", 1, 1)
        reading.result(1, 105, number, 2, 1, 0)
        assert len(reading.said) == number + 1
        reading.record(action="stop", id=10 + number)
    assert reading.said == ["building git-2.50 (2 left of 2)", "building nixos-system-ada (1 left of 2)"]


def test_downloads_are_counted_down(reading: Reading) -> None:
    """What comes from a cache is told with its source; the transfers that it is made of are not."""
    reading.start(2, 103)
    reading.start(3, 108, f"/nix/store/{HASH}-bash-5.2", "https://cache.nixos.org")
    reading.start(4, 101, f"https://cache.nixos.org/{HASH}.narinfo")
    reading.start(5, 101, "https://cache.nixos.org/nar/0abc.nar.xz")
    reading.result(2, 105, 3, 10, 1, 0)
    reading.start(6, 101, "https://example.org/source.tar.gz")
    reading.start(7, 0, text="fetching Git repository 'file:///applied/ada.git'")
    reading.formatter.finish()
    assert reading.said == [
        "downloading bash-5.2 from https://cache.nixos.org (7 left of 10)",
        "downloading https://example.org/source.tar.gz",
        "fetching Git repository 'file:///applied/ada.git'",
    ]


def test_a_build_without_counts_is_told(reading: Reading) -> None:
    """Where no count comes, the next thing that happens or the end brings the line out."""
    reading.start(10, 105, f"/nix/store/{HASH}-a.drv", "", 1, 1)
    reading.record(action="stop", id=10)
    reading.start(11, 105, f"/nix/store/{HASH}-b.drv", "", 1, 1)
    reading.formatter.finish()
    assert reading.said == ["building a", "building b"]


def test_builders_logs_are_passed_on(reading: Reading) -> None:
    """A line of a builder's log has the builder's name before it, and no colours."""
    reading.start(10, 105, f"/nix/store/{HASH}-jq-1.8.drv", "", 1, 1)
    reading.result(10, 101, "\x1b[1mchecking\x1b[0m for gcc... \x07yes\r")
    reading.result(99, 101, "of a build that nobody started")
    assert reading.said == ["building jq-1.8", "jq-1.8> checking for gcc... yes", "of a build that nobody started"]


def test_errors_are_kept_in_plain_words(reading: Reading) -> None:
    """What Nix says is wrong is the failure: all of it once, without colours, apart from the progress."""
    reading.message(0, "\x1b[31;1merror:\x1b[0m undefined variable '\x1b[35;1my\x1b[0m'\n\n   at agent.nix:3:5")
    reading.message(0, "error: second")
    reading.message(0, "error: second")
    assert reading.said == []
    assert reading.formatter.failure == "error: undefined variable 'y'\n\n   at agent.nix:3:5\nerror: second"


def test_warnings_and_traces_are_said(reading: Reading) -> None:
    """A warning and what `builtins.trace` says are progress and no error, though Nix gives traces that level."""
    reading.message(1, "\x1b[35;1mwarning:\x1b[0m Git tree is dirty")
    reading.message(0, "trace: one\ntwo")
    reading.message(5, "chatter")
    assert reading.said == ["warning: Git tree is dirty", "trace: one", "two"]
    assert reading.formatter.failure == ""


def test_what_is_no_record_is_passed_on(reading: Reading) -> None:
    """Other programs' words are shown, and kept as what was said last."""
    reading.formatter.feed("Failed to start transient service unit: \x1b[1mno\x1b[0m")
    reading.formatter.feed("")
    assert reading.said == ["Failed to start transient service unit: no"]
    assert reading.formatter.said == "Failed to start transient service unit: no"


def test_a_flood_is_cut() -> None:
    """A build that says gigabytes is kept to a bound, with a line that says so, and its errors are still seen."""
    said = 0
    lines: list[str] = []

    def say(line: str) -> None:
        nonlocal said
        said += len(line)
        lines[:] = [line]

    formatter = NixLogFormatter(say)
    for _ in range(2 * SAID_CHARACTERS // 1_900):
        formatter.feed("x" * 1_900)
    formatter.feed(RECORD + json.dumps({"action": "msg", "level": 0, "msg": "error: at last"}))
    assert said < SAID_CHARACTERS + 4_000
    assert lines == ["the build says more than is kept: the rest is left out"]
    assert formatter.failure == "error: at last"


def test_long_texts_are_cut(reading: Reading) -> None:
    """A line, a list of errors and an error are bounded; of an error the end stays, where its cause stands."""
    reading.message(1, "w" * 10_000)
    for number in range(100):
        reading.message(0, f"error {number}: " + "e" * 100_000 + " the cause")
    assert len(reading.said[0]) < 2_100
    assert len(reading.formatter.errors) == 10
    assert len(reading.formatter.failure) < ERROR_CHARACTERS
    assert reading.formatter.failure.startswith("error 0")
    assert reading.formatter.failure.endswith(" the cause")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("\x1b[1m"),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=6,
)
_records = st.fixed_dictionaries(
    {"action": st.sampled_from(["start", "stop", "result", "msg", "else"]) | _values},
    optional={
        "id": st.integers(0, 3) | _values,
        "type": st.sampled_from([0, 100, 101, 103, 104, 105, 106, 108, 112]) | _values,
        "fields": _values,
        "text": _values,
        "level": st.integers(0, 5) | _values,
        "msg": _values,
    },
)
_lines = st.one_of(
    _records.map(lambda record: RECORD + json.dumps(record)),
    st.text().map(lambda text: text.replace("\n", "")),
    st.text().map(lambda text: RECORD + text.replace("\n", "")),
    st.integers(1, 100_000).map(lambda depth: RECORD + "[" * depth),
)


@given(st.lists(_lines, max_size=20))
def test_garbage_is_tolerated(lines: list[str]) -> None:
    """Whatever comes, nothing is raised, and what is said is one line without control characters each."""
    said: list[str] = []
    formatter = NixLogFormatter(said.append)
    for line in lines:
        formatter.feed(line)
    formatter.finish()
    assert not [line for line in [*said, *formatter.errors] if "\x1b" in line or "\x07" in line]
    assert not [line for line in said if "\n" in line]
