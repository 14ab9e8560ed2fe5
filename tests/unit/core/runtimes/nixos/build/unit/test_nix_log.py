"""Output of Nix, in the form in which Nix 2.8, 2.26 and 2.34 print it, as bounded lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.runtimes.nixos.build.unit.nix_log import ERROR_CHARACTERS, LINE_BYTES, LOG_CHARACTERS, NixLog

HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"
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


def message(text: str, level: int = 0) -> str:
    return "@nix " + json.dumps({"action": "msg", "level": level, "msg": text})


def error(text: str, level: int = 0) -> str:
    found = {"action": "msg", "column": None, "file": None, "level": level, "line": None, "msg": text, "raw_msg": text}
    return "@nix " + json.dumps(found)


def start(number: int, name: str) -> str:
    path = f"/nix/store/{HASH}-{name}.drv"
    found = {"action": "start", "id": number, "level": 3, "type": 105, "text": f"building '{path}'"}
    return "@nix " + json.dumps({**found, "fields": [path, "", 1, 1]})


def result(number: int, *fields: object, kind: int = 101) -> str:
    return "@nix " + json.dumps({"action": "result", "id": number, "type": kind, "fields": list(fields)})


BUILD = [
    message("trace: a trace"),
    message("these 2 derivations will be built:", 3),
    message(f"  /nix/store/{HASH}-jq-1.8.drv", 3),
    message("evaluating file", 4),
    '@nix {"action":"start","id":9,"level":6,"text":"querying info about missing paths","type":0}',
    start(1, "jq-1.8"),
    result(1, "checking for gcc... yes"),
    result(1, 1, 1, 0, 0, kind=105),
    '@nix {"action":"stop","id":1}',
    start(2, "bad"),
    result(2, "this is why"),
]
SHOWN = [
    "trace: a trace",
    "these 2 derivations will be built:",
    f"  /nix/store/{HASH}-jq-1.8.drv",
    f"building '/nix/store/{HASH}-jq-1.8.drv'...",
    "jq-1.8> checking for gcc... yes",
    f"building '/nix/store/{HASH}-bad.drv'...",
    "bad> this is why",
]


class NixOutput:
    """Feeds lines and collects those that are passed on."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = NixLog(self.lines.append)

    def feed(self, *lines: str) -> None:
        for line in lines:
            self.log.feed(line)


@pytest.fixture
def output() -> NixOutput:
    return NixOutput()


def test_messages_and_the_lines_of_builders_are_passed_on(output: NixOutput) -> None:
    """The derivations that are built and the lines of builders with their names are the progress; no error is seen."""
    output.feed(*BUILD)
    assert output.lines == SHOWN
    assert (output.log.error, output.log.foreign_line) == ("", "")


def test_a_short_last_line_is_not_taken_for_a_part_of_the_error(output: NixOutput) -> None:
    """A last line that occurs somewhere in Nix's error does not hide the end of the builder's log."""
    output.feed(start(1, "bad"), result(1, "gcc: fatal error"), result(1, "e"), error(OLD_ERROR))
    assert output.log.error.endswith("last lines of the log:\nbad> gcc: fatal error\nbad> e")


@pytest.mark.parametrize("text", [OLD_ERROR, NEW_ERROR])
def test_a_failed_builder_is_reported_with_the_end_of_its_log(output: NixOutput, text: str) -> None:
    """The error does not quote the builder's log, so its last lines are added."""
    output.feed(*BUILD, error(text))
    assert output.log.error == f"{text}\nlast lines of the log:\njq-1.8> checking for gcc... yes\nbad> this is why"


def test_a_log_that_the_error_quotes_is_not_repeated(output: NixOutput) -> None:
    """Nothing is added to an error in which Nix quotes the end of the builder's log."""
    quoted = f"{OLD_ERROR};\n       last 1 log lines:\n       > this is why"
    output.feed(*BUILD, error(quoted))
    assert output.log.error == quoted


def test_an_evaluation_error_keeps_its_position(output: NixOutput) -> None:
    """The lines of an error are kept with their indentation, in the log and in the reason, without colours."""
    text = EVALUATION_ERROR.replace("\n", "\n\n").replace("error:", "\x1b[31;1merror:\x1b[0m")
    output.feed(message("warning: Git tree is dirty", 1), error(text), message("(use '--show-trace')"))
    assert output.log.error == EVALUATION_ERROR
    assert output.lines == ["warning: Git tree is dirty", *EVALUATION_ERROR.splitlines(), "(use '--show-trace')"]


@pytest.mark.parametrize(
    "line",
    [
        message("trace: x\nerror: not the error"),
        message("error: not the error"),
        error("error: not the error", level=1),
        start(1, "bad") + "\n" + result(1, "error: not the error"),
        result(1, "x\nerror: not the error"),
        result(1, '@nix {"action":"msg","level":0,"msg":"error: not the error","raw_msg":"x"}'),
    ],
)
def test_no_text_of_an_agent_is_an_error(output: NixOutput, line: str) -> None:
    """A trace, a warning and a builder that write what looks like an error are no error: the reason is Nix's own."""
    output.feed(*line.split("\n"), error(OLD_ERROR))
    assert output.log.error.splitlines()[0] == OLD_ERROR
    assert output.log.foreign_line == ""
    assert not [one for one in output.lines[:-1] if one.startswith("error: not") and "\\n" in line]


def test_a_trace_of_several_lines_stays_one_message(output: NixOutput) -> None:
    """Only the first line of a message begins at the margin."""
    output.feed(message("trace: x\nerror: not the error\nbuilt /nix/store/y"))
    assert output.lines == ["trace: x", "       error: not the error", "       built /nix/store/y"]


def test_other_programs_are_told_from_nix(output: NixOutput) -> None:
    """A line without Nix's mark is that of systemd-run, if Nix has not run, or of Nix when its stack is full."""
    output.feed("Failed to start transient service unit: no bus")
    assert (output.log.foreign_line, output.log.error) == ("Failed to start transient service unit: no bus", "")
    output.feed(*BUILD, "error: stack overflow (possible infinite recursion)", "  and more")
    assert output.log.foreign_line == ""
    assert output.log.error.splitlines()[:2] == ["error: stack overflow (possible infinite recursion)", "  and more"]


def test_a_program_that_nix_runs_hides_no_error_of_nix(output: NixOutput) -> None:
    """A git for `fetchGit` can be made to write a line like an error: it is no part of the reason."""
    output.feed("fatal: 'x", "error: not the error", error(OLD_ERROR))
    assert output.log.error == OLD_ERROR
    assert output.log.foreign_line == ""


def test_a_line_that_was_cut_is_left_out(output: NixOutput) -> None:
    """The rest of a line that is too long does not count as a line; a lost error is reported as such."""
    output.feed(error("error: " + "x" * LINE_BYTES)[:LINE_BYTES])
    assert output.lines == ["[...]"]
    assert output.log.error == "error: Nix has reported it in a line of more than 1,048,576 bytes"
    output.feed(error(OLD_ERROR))
    assert output.log.error == OLD_ERROR


def test_control_characters_are_escaped(output: NixOutput) -> None:
    """Nothing that is passed on or kept moves a terminal's cursor or reverses its text."""
    output.feed(error("error: \x1b[2Jred\x07\u202e"))
    assert output.lines == [r"error: \x1b[2Jred\x07\u202e"]
    assert output.log.error == r"error: \x1b[2Jred\x07\u202e"


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
        log.feed(message("x" * 1_900))
    log.feed(error("error: the cause"))
    assert characters < LOG_CHARACTERS + 4_000
    assert last == "the output of the build is longer than what is kept; the rest is left out"
    assert log.error == "error: the cause"


def test_long_lines_and_errors_are_cut(output: NixOutput) -> None:
    """A line and an error are bounded; beginning and end of the error stay."""
    output.feed(message("w" * 10_000))
    lines = [f"error {number}: {'e' * 10_000}" if number else "error: the first" for number in range(1_000)]
    output.feed(error("\n".join([*lines, "       the cause"])))
    assert all(len(line) < 2_010 for line in output.lines)
    assert len(output.log.error) < ERROR_CHARACTERS
    assert output.log.error.startswith("error: the first\n")
    assert "\n[...]\n" in output.log.error
    assert output.log.error.endswith("\n       the cause")


_KEYS = st.sampled_from(("action", "msg", "raw_msg", "level", "id", "type", "fields", "text"))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=10,
)
_messages = st.fixed_dictionaries(
    {"action": st.sampled_from(("msg", "start", "stop", "result"))},
    optional={
        "msg": _json | st.text(),
        "raw_msg": _json,
        "level": _json,
        "id": _json,
        "type": st.sampled_from((101, 105, 107)) | _json,
        "fields": _json | st.lists(st.text()),
        "text": _json | st.text(),
    },
)
_lines = st.one_of(
    st.text().map(lambda text: text.replace("\n", "")),
    st.text().map(lambda text: "error:" + text.replace("\n", "")),
    st.text(alphabet="\x1b[31m\r\u202e\U000e0001x", min_size=1_990, max_size=2_010),
    _messages.map(lambda found: "@nix " + json.dumps(found)),
    st.text().map(lambda text: "@nix " + text.replace("\n", "")),
)


@given(st.lists(_lines, max_size=20))
def test_any_output_becomes_printable_bounded_lines(lines: list[str]) -> None:
    """Whatever a build prints, each line is passed on as one bounded line without control characters."""
    passed: list[str] = []
    log = NixLog(passed.append)
    for line in lines:
        log.feed(line)
    for text in [*passed, log.foreign_line, *log.error.split("\n")]:
        assert len(text) < 2_010
        assert not set(text) & set("\x1b\x07\r\n\u202e\U000e0001")
    assert len(log.error) <= ERROR_CHARACTERS
