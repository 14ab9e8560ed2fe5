"""Output of Nix, as it was printed by Nix 2.8, 2.26 and 2.34, as bounded lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.runtimes.nixos.build.nix_log import ERROR_CHARACTERS, LOG_CHARACTERS, NixLog

HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"
BUILD = f"""\
trace: a trace
these 2 derivations will be built:
  /nix/store/{HASH}-jq-1.8.drv
  /nix/store/{HASH}-bad.drv
building '/nix/store/{HASH}-jq-1.8.drv'...
jq-1.8> checking for gcc... yes
building '/nix/store/{HASH}-bad.drv'...
bad> this is why
"""
OLD_ERROR = f"error: builder for '/nix/store/{HASH}-bad.drv' failed with exit code 3"
NEW_ERROR = f"""\
error: Cannot build '/nix/store/{HASH}-bad.drv'.
       Reason: builder failed with exit code 3."""
EVALUATION_ERROR = """\
error: attribute 'b' missing
       at /nix/store/source/agent.nix:1:4:
            1| x: { a = x + "s"; }.b.c
             |    ^
       Did you mean a?"""


class NixOutput:
    """Feeds lines and collects those that are passed on."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = NixLog(self.lines.append)

    def feed(self, text: str) -> None:
        for line in text.splitlines():
            self.log.feed(line)


@pytest.fixture
def output() -> NixOutput:
    return NixOutput()


def test_every_line_is_passed_on_as_nix_prints_it(output: NixOutput) -> None:
    """The derivations that are built and the lines of builders with their names are the progress; no error is seen."""
    output.feed(BUILD)
    assert output.lines == BUILD.splitlines()
    assert (output.log.error, output.log.last_line) == ("", "bad> this is why")


def test_a_short_last_line_is_not_taken_for_a_part_of_the_error(output: NixOutput) -> None:
    """A last line that occurs somewhere in Nix's error does not hide the end of the builder's log."""
    output.feed(f"bad> gcc: fatal error\nbad> e\n{OLD_ERROR}")
    assert output.log.error.endswith("last lines of the log:\nbad> gcc: fatal error\nbad> e")


@pytest.mark.parametrize("error", [OLD_ERROR, NEW_ERROR])
def test_a_failed_builder_is_reported_with_the_end_of_its_log(output: NixOutput, error: str) -> None:
    """Without a Nix daemon the error does not quote the builder's log, so its last lines are added."""
    output.feed(BUILD + error)
    assert output.log.error == f"{error}\nlast lines of the log:\njq-1.8> checking for gcc... yes\nbad> this is why"


def test_a_log_that_the_error_quotes_is_not_repeated(output: NixOutput) -> None:
    """The Nix daemon quotes the end of the builder's log in its error, so nothing is added to it."""
    quoted = f"{OLD_ERROR};\n       last 1 log lines:\n       > this is why"
    output.feed(BUILD + quoted)
    assert output.log.error == quoted


def test_an_evaluation_error_keeps_its_position(output: NixOutput) -> None:
    """The lines of an error are kept with their indentation, in the log and in the reason, without blank lines."""
    output.feed("warning: Git tree is dirty\n" + EVALUATION_ERROR.replace("\n", "\n\n"))
    assert output.log.error == EVALUATION_ERROR
    assert output.lines == ["warning: Git tree is dirty", *EVALUATION_ERROR.splitlines()]


def test_a_trace_cannot_hide_the_log_or_the_error(output: NixOutput) -> None:
    """After a trace with a line like an error, the log is passed on all the same, and the real error is kept."""
    output.feed("trace: x\nerror: not the error\n" + BUILD * 100 + OLD_ERROR)
    assert output.lines[2:-1] == BUILD.splitlines() * 100
    assert output.log.error.startswith("error: not the error\n")
    assert output.log.error.endswith(OLD_ERROR)


def test_a_builder_cannot_pretend_an_error(output: NixOutput) -> None:
    """A line of a builder is no error, because Nix puts the builder's name before it."""
    output.feed("bad> error: not the error")
    assert output.log.error == ""


def test_control_characters_are_escaped(output: NixOutput) -> None:
    """Nothing that is passed on or kept colours a terminal, moves its cursor or reverses its text."""
    output.feed("error: \x1b[31mred\x07\u202e")
    assert output.lines == [r"error: \x1b[31mred\x07\u202e"]
    assert output.log.error == output.log.last_line == r"error: \x1b[31mred\x07\u202e"


def test_a_flood_is_cut() -> None:
    """The lines that are passed on are bounded, with a last one that says so, and the error is kept all the same."""
    characters = 0
    last = ""

    def say(line: str) -> None:
        nonlocal characters, last
        characters += len(line)
        last = line

    log = NixLog(say)
    for _ in range(2 * LOG_CHARACTERS // 1_900):
        log.feed("x" * 1_900)
    log.feed("error: the cause")
    assert characters < LOG_CHARACTERS + 4_000
    assert last == "the output of the build is longer than what is kept; the rest is left out"
    assert log.error == "error: the cause"


def test_long_lines_and_errors_are_cut(output: NixOutput) -> None:
    """A line and an error are bounded; beginning and end of the error stay."""
    output.feed("w" * 10_000)
    for number in range(1_000):
        output.feed(f"error {number}: {'e' * 10_000}" if number else "error: the first")
    output.feed("       the cause")
    assert all(len(line) < 2_010 for line in output.lines)
    assert len(output.log.error) < ERROR_CHARACTERS
    assert output.log.error.startswith("error: the first\n")
    assert "\n[...]\n" in output.log.error
    assert output.log.error.endswith("\n       the cause")


_lines = st.one_of(
    st.text().map(lambda text: text.replace("\n", "")),
    st.text().map(lambda text: "error:" + text.replace("\n", "")),
    st.text().map(lambda text: "x> " + text.replace("\n", "")),
    st.text(alphabet="\x1b[31m\r\u202e\U000e0001x", min_size=1_990, max_size=2_010),
)


@given(st.lists(_lines, max_size=20))
def test_any_output_becomes_printable_bounded_lines(lines: list[str]) -> None:
    """Whatever a build prints, each line is passed on as one bounded line without control characters."""
    passed: list[str] = []
    log = NixLog(passed.append)
    for line in lines:
        log.feed(line)
    for text in [*passed, log.last_line, *log.error.split("\n")]:
        assert len(text) < 2_010
        assert not set(text) & set("\x1b\x07\r\n\u202e\U000e0001")
    assert len(log.error) <= ERROR_CHARACTERS
