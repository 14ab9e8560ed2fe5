"""How the runs of opencode, codex and gemini are judged, from what the real programs wrote."""

from __future__ import annotations

import json

import pytest

from hive_agent.backends.base import Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.cli_launch import StoredSession
from hive_agent.backends.one_shot.codex import CodexReader
from hive_agent.backends.one_shot.gemini import GeminiReader
from hive_agent.backends.one_shot.opencode import OpencodeReader
from hive_agent.backends.one_shot.reader import SHOWN_RESULT, OutputReader
from hive_agent.backends.transcript import Entry, Notice, TextPiece, TokenUsage, ToolResult, TranscriptText, as_json


def fed(reader: OutputReader, *lines: str, stderr: bool = False) -> list[Entry]:
    """What the lines are told as."""
    return [entry for line in lines for entry in (reader.feed_stderr(line) if stderr else reader.feed(line.encode()))]


def ended(reader: OutputReader, exit_code: int | None = 1) -> TurnOutcome:
    return reader.verdict or reader.outcome(exit_code)


def kind(outcome: TurnOutcome) -> str:
    return outcome.kind if isinstance(outcome, Failed) else type(outcome).__name__


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        ("unexpected status 401 Unauthorized: invalid x-api-key, url: http://127.0.0.1:1/v1/responses", "NeedsLogin"),
        ("exceeded retry limit, last status: 429 Too Many Requests", "rate_limit"),
        ("unexpected status 529 <unknown status code>: Overloaded, url: http://127.0.0.1:1/v1/responses", "overloaded"),
        ('{"error": {"code": "invalid_request_error", "message": "prompt is too long: 9 tokens > 1"}}', "too_long"),
        ("Quota exceeded. Check your plan and billing details.", "billing"),
    ],
)
def test_codex_failures(words: str, judged: str) -> None:
    """Each way in which codex says that the model's API failed is judged as what it is."""
    reading = CodexReader()
    fed(reading, json.dumps({"type": "turn.failed", "error": {"message": words}}))
    assert kind(ended(reading)) == judged


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        ('[API Error: {"error":{"code":401,"message":"invalid","status":"authentication_error"}}]', "NeedsLogin"),
        ("[API Error: slow down]\nPlease wait and try again later. To increase your limits, request", "rate_limit"),
        ('[API Error: {"error":{"code":529,"message":"Overloaded","status":"overloaded_error"}}]', "overloaded"),
        ('[API Error: {"error":{"code":400,"message":"prompt is too long: 9 tokens","status":"x"}}]', "too_long"),
    ],
)
def test_gemini_failures(words: str, judged: str) -> None:
    """Each way in which gemini says that the model's API failed is judged as what it is."""
    reading = GeminiReader()
    fed(reading, json.dumps({"type": "result", "status": "error", "error": {"type": "Error", "message": words}}))
    assert kind(ended(reading)) == judged


@pytest.mark.parametrize(("exit_code", "judged"), [(41, "NeedsLogin"), (52, "config"), (1, "crashed")])
def test_gemini_exit_codes(exit_code: int, judged: str) -> None:
    """Gemini tells missing credentials and bad settings only with how it exits."""
    reading = GeminiReader()
    fed(reading, "Invalid auth method selected.", stderr=True)
    outcome = ended(reading, exit_code)
    assert kind(outcome) == judged
    assert "Invalid auth method selected." in str(outcome)


def test_opencode_gives_up() -> None:
    """Opencode would try a failing API for ever: after its fourth try the turn ends, judged by what the API said."""
    line = 'level=ERROR message="stream error" small=false agent=build error.error="AI_APICallError: slow down"'
    reading = OpencodeReader()
    told = fed(reading, *[line] * 3, stderr=True)
    assert [entry.level for entry in told if isinstance(entry, Notice)] == ["warning"] * 3
    assert reading.verdict is None
    fed(reading, line, stderr=True)
    assert reading.verdict == Failed("rate_limit", "AI_APICallError: slow down")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"name": "ProviderAuthError", "data": {"message": "no key"}}, NeedsLogin("no key")),
        ({"name": "ContextOverflowError", "data": {"message": "full"}}, Failed("too_long", "full")),
        (
            {
                "name": "APIError",
                "data": {"message": "no", "statusCode": 429, "responseHeaders": {"retry-after": "17"}},
            },
            Failed("rate_limit", "no", 17.0),
        ),
        ({"name": "APIError", "data": {"message": "no", "statusCode": 503}}, Failed("overloaded", "no")),
        (None, Failed("refused", "opencode reports an error without a message")),
    ],
)
def test_opencode_errors(error: object, outcome: TurnOutcome) -> None:
    """An error event of opencode is the turn's outcome, with what the API asked for."""
    reading = OpencodeReader()
    fed(reading, json.dumps({"type": "error", "sessionID": "ses_1", "error": error}))
    assert ended(reading) == outcome


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        (OpencodeReader(), 'level=WARN message="server unavailable" key=hive type=local status=failed'),
        (CodexReader(), "Error: required MCP servers failed to initialize: hive: connection closed"),
        (GeminiReader(), "MCP issues detected. Run /mcp list for status."),
    ],
    ids=["opencode", "codex", "gemini"],
)
def test_missing_tools(reader: OutputReader, line: str) -> None:
    """A turn without the hive's tools could answer nobody: it fails, however well it looks otherwise."""
    fed(reader, line, stderr=True)
    assert kind(ended(reader, 0)) == "no_tools"


@pytest.mark.parametrize("reader", [OpencodeReader(), CodexReader(), GeminiReader()], ids=lambda it: type(it).__name__)
def test_what_is_no_event(reader: OutputReader) -> None:
    """Lines that are no events of a known shape are skipped, and an end without a result is a crash with last words."""
    lines = ["", "null", "[]", "{", '{"type": 7}', '{"type": "text", "part": []}', "[" * 100_000]
    lines += [f'{{"type": "{name}", "item": 3, "error": 4, "part": "x"}}' for name in ("tool_use", "item.completed")]
    fed(reader, *lines)
    fed(reader, "out of memory", stderr=True)
    outcome = ended(reader, -9)
    assert kind(outcome) == "crashed"
    assert "signal 9" in str(outcome) and "out of memory" in str(outcome)


def test_codex_tells_sums() -> None:
    """Codex tells the tokens of the whole conversation: the turn's own are what came on top, kept over restarts."""
    known = StoredSession(id="t1", input=100, cached=40, output=7)
    reading = CodexReader(known=known)
    usage = {"input_tokens": 130, "cached_input_tokens": 60, "output_tokens": 9}
    [entry] = fed(
        reading, '{"type":"thread.started","thread_id":"t1"}', json.dumps({"type": "turn.completed", "usage": usage})
    )
    assert entry == TokenUsage(input=10, output=2, cache_read=20)
    assert ended(reading) == Ok()
    assert reading.add_sums(known) == StoredSession(id="t1", input=130, cached=60, output=9)


def test_long_results_are_cut() -> None:
    """A tool's long result is shown in part, with its full size."""
    item = {"id": "i", "type": "command_execution", "aggregated_output": "x" * 50_000, "exit_code": 0, "status": "ok"}
    _, result = fed(CodexReader(), json.dumps({"type": "item.completed", "item": item}))
    assert result == ToolResult("i", "x" * SHOWN_RESULT, False, 50_000)


def test_deep_input_is_cut() -> None:
    """A tool's input that a model nests without end can be told: it does not break the turn, now and each time."""
    deep = "[" * 500 + "]" * 500
    part = f'{{"callID":"a","tool":"x","state":{{"status":"completed","output":"","input":{deep}}}}}'
    call, _ = fed(OpencodeReader(), f'{{"type":"tool_use","part":{part}}}')
    assert "nested deeper" in str(as_json(call))
    item = f'{{"type":"mcp_tool_call","id":"i","arguments":{deep},"result":{{"content":[{deep}]}}}}'
    for entry in fed(CodexReader(), f'{{"type":"item.completed","item":{item}}}'):
        assert "nested deeper" in str(as_json(entry))


def test_gemini_pieces_are_one_text() -> None:
    """Gemini streams pieces of a text, which are told as one when something else follows."""
    pieces = [f'{{"type":"message","role":"assistant","content":"{word}","delta":true}}' for word in ("a ", "b")]
    done = '{"type":"result","status":"success","stats":{"input_tokens":9,"output_tokens":2,"cached":4}}'
    told = [TextPiece("a "), TextPiece("b"), TranscriptText("a b"), TokenUsage(input=5, output=2, cache_read=4)]
    assert fed(GeminiReader(), *pieces, done) == told


@pytest.mark.parametrize(
    ("reader", "line", "repeat", "words"),
    [
        (
            CodexReader(),
            '{"type":"error","message":"Reconnecting... 2/5 (unexpected status 401 Unauthorized: wrong key, url: u)"}',
            2,
            "unexpected status 401 Unauthorized: wrong key, url: u; retry 2 of 5",
        ),
        (CodexReader(), '{"type":"error","message":"Reconnecting... 1/5"}', 1, "no answer; retry 1 of 5"),
        (
            GeminiReader(),
            "Attempt 1 failed with status 503. Retrying with backoff... _ApiError: "
            '{"error":{"code":503,"message":"busy","status":"overloaded_error"}}',
            1,
            "503 busy",
        ),
        (
            GeminiReader(),
            "Attempt 3 failed: You have exhausted your capacity. It will reset after 5s.. Retrying after 6173ms...",
            3,
            "You have exhausted your capacity. It will reset after 5s",
        ),
        (
            GeminiReader(),
            "Attempt 1 failed. Retrying with backoff... TypeError: fetch failed",
            1,
            "no reason was given",
        ),
        (
            OpencodeReader(),
            'ERROR message="stream error" error.error="invalid x-api-key" small=false',
            1,
            "invalid x-api-key",
        ),
    ],
)
def test_a_repeated_call_is_told_at_once(reader: OutputReader, line: str, repeat: int, words: str) -> None:
    """A failed call that the program repeats is told with its reason when the program says so."""
    [notice] = fed(reader, line, stderr=not line.startswith("{"))
    assert notice == Notice("warning", f"the model's API failed: {words}", repeat=repeat)
    assert reader.verdict is None


OPENCODE_STREAM = (
    'timestamp=2026-11-30T20:55:58.396Z level=ERROR run=6af1298f message="stream error" providerID=anthropic '
    'session.id=ses_1 small=false agent=build mode=primary error.error="AI_APICallError: {words}"'
)
OPENCODE_ERROR = (
    '{{"type":"error","sessionID":"ses_1","error":{{"name":"APIError","data":{{"message":"{words}","statusCode":{status},'
    '"isRetryable":false,"responseHeaders":{{"content-type":"application/json"}}}}}}}}'
)
CODEX_ERROR = "unexpected status {status} {reason}: {words}, url: http://127.0.0.1:1/v1/responses"
GEMINI_RESULT = (
    '{{"type":"result","status":"error","error":{{"type":"unknown","message":"[API Error: {{\\"error\\":{{\\"code\\":'
    '{status},\\"message\\":\\"{words}\\",\\"status\\":\\"permission_error\\"}}}}]"}},"stats":{{}}}}'
)
REFUSING_LINES: list[tuple[type[OutputReader], list[str]]] = [
    (OpencodeReader, [OPENCODE_STREAM, OPENCODE_ERROR]),
    (
        CodexReader,
        [
            f'{{{{"type":"error","message":"Reconnecting... 1/2 ({CODEX_ERROR})"}}}}',
            f'{{{{"type":"turn.failed","error":{{{{"message":"{CODEX_ERROR}"}}}}}}}}',
        ],
    ),
    (GeminiReader, [GEMINI_RESULT]),
]
"""What the programs write of a call that the API refuses: opencode and gemini do not repeat it."""


@pytest.mark.parametrize(("reader", "lines"), REFUSING_LINES, ids=["opencode", "codex", "gemini"])
@pytest.mark.parametrize(
    ("status", "reason", "words", "judged"),
    [
        (402, "Payment Required", "More credits are needed", "billing"),
        (403, "Forbidden", "Request not allowed", "NeedsLogin"),
        (403, "Forbidden", "Key limit exceeded (total limit)", "billing"),
    ],
)
def test_a_refusal_for_good_is_told_at_once(
    reader: type[OutputReader], lines: list[str], status: int, reason: str, words: str, judged: str
) -> None:
    """The first 402 or 403 is told while the program repeats the call, and is the outcome of one that does not."""
    reading = reader()
    *told_before, last = [line.format(status=status, reason=reason, words=words) for line in lines]
    for line in told_before:
        [notice] = fed(reading, line, stderr=not line.startswith("{"))
        assert isinstance(notice, Notice) and notice.repeat == 1
        assert words in notice.text
    fed(reading, last)
    outcome = ended(reading)
    assert kind(outcome) == judged
    assert words in str(outcome)


def test_gemini_status_of_the_last_call() -> None:
    """Gemini's result lacks the status of the failed call, which counts only until the next answer."""
    retry = "Attempt 1 failed with status 503. Retrying with backoff... _ApiError: {}"
    failed = '{"type":"result","status":"error","error":{"type":"Error","message":"[API Error: busy]"}}'
    reading = GeminiReader()
    fed(reading, retry, stderr=True)
    fed(reading, failed)
    assert kind(ended(reading)) == "overloaded"
    reading = GeminiReader()
    fed(reading, retry, stderr=True)
    fed(reading, '{"type":"message","role":"assistant","content":"hello"}', failed)
    assert kind(ended(reading)) == "refused"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"content": [{"type": "text", "text": "Error executing tool send: no agent"}], "isError": True}, "no agent"),
        ({"error": {"message": "MCP error -32000: Connection closed", "isError": True}}, "Connection closed"),
        ({"error": 5}, "reported an error"),
    ],
)
def test_gemini_tells_why_an_mcp_tool_failed(response: object, text: str) -> None:
    """The result of a failed tool is what its server or the transport said; the model's arguments are no part of it."""
    call = {
        "name": "send",
        "args": {"body": ' with response: [{"functionResponse":{"response":{"error":{"message":"x"}}}}]'},
    }
    answer = [{"functionResponse": {"name": "send", "response": response}}]
    message = (
        f"MCP tool 'send' reported tool error for function call: {_compact(call)} with response: {_compact(answer)}"
    )
    event = {
        "type": "tool_result",
        "tool_id": "1",
        "status": "error",
        "output": "Error: MCP tool 'send' reported an error.",
        "error": {"type": "mcp_tool_error", "message": message},
    }
    [result] = GeminiReader().feed(json.dumps(event).encode())
    assert isinstance(result, ToolResult) and result.is_error
    assert result.text.endswith(f"{text}{'.' if text == 'reported an error' else ''}")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
