"""Limits of bodies before they are parsed: they let every honest request of every endpoint pass, and no costly one."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from aiohttp import web

from hive_core.api import bodies
from hive_core.api.bodies import has_more_values, parsed_body
from hive_core.api.endpoint import MOST_VALUES, MOST_VALUES_OF_SPAWN, MOST_VALUES_WITH_IDS, Endpoint
from hive_core.api.routes.tables import Services, agents_endpoints, operators_endpoints
from hive_core.errors import HiveError
from hive_core.protocol import MAX_BODY_BYTES, MAX_REQUEST_BYTES, AckRequest, Request, SendRequest, SpawnRequest

SERVICES = cast(Services, MagicMock())
WITH_BODY = {
    f"{table.__name__} {each.path}": each
    for table in (agents_endpoints, operators_endpoints)
    for each in table(SERVICES)
    if each.body is not None
}
IN_ESCAPES = 12
"""Bytes of a character beyond the basic plane in JSON that is written in ASCII."""
NUMBER = 20
NOT_BLANK = r"\S"
SHORT = 100
"""Characters of a text that has another rule than a length: a name, a commit."""
MOST_SECONDS = 0.05
"""The processor's time for a body that is refused; without the bounds the worst took 0.8 s."""


def largest(schema: dict[str, Any], definitions: dict[str, Any], name: str = "") -> tuple[int, int]:
    """Return the bytes and values of the largest request of a schema; MAX_REQUEST_BYTES stands for all above."""
    if "$ref" in schema:
        return largest(definitions[schema["$ref"].rpartition("/")[2]], definitions, name)
    if "anyOf" in schema:
        found = [largest(part, definitions, name) for part in schema["anyOf"]]
        return max(size for size, _ in found), max(values for _, values in found)
    if schema.get("type") == "array":
        size, values = largest(schema["items"], definitions)
        return 2 + schema["maxItems"] * (2 + size), schema["maxItems"] * (1 + values)
    if "properties" in schema:
        parts = {key: largest(part, definitions, key) for key, part in schema["properties"].items()}
        return (
            2 + sum(len(key) + 6 + size for key, (size, _) in parts.items()),
            sum(1 + values for _, values in parts.values()),
        )
    if schema.get("type") == "object":
        (part,) = schema.get("patternProperties", {"": schema.get("additionalProperties")}).values()
        size, values = largest(part, definitions)
        return schema["maxProperties"] * (SHORT + 6 + size), schema["maxProperties"] * (1 + values)
    if schema.get("type") == "string" and not {"enum", "const"} & schema.keys():
        # The pattern that a text is not blank says nothing of its length.
        formed = "format" in schema or schema.get("pattern", NOT_BLANK) != NOT_BLANK
        unlimited = SHORT if name in ("agent", "name") or formed else MAX_BODY_BYTES
        return 2 + IN_ESCAPES * schema.get("maxLength", unlimited), 0
    return NUMBER if schema.get("type") in ("integer", "number") else SHORT, 0


@pytest.mark.parametrize("endpoint", WITH_BODY.values(), ids=WITH_BODY)
def test_every_honest_request_has_room(endpoint: Endpoint) -> None:
    """The limits of an endpoint are those of the largest request that its model allows, up to 2 MiB in all."""
    assert endpoint.body is not None
    schema = endpoint.body.model_json_schema()
    size, values = largest(schema, schema.get("$defs", {}))
    assert min(size, MAX_REQUEST_BYTES) <= endpoint.most_bytes <= MAX_REQUEST_BYTES
    assert values <= endpoint.most_values
    if size < MAX_REQUEST_BYTES:
        assert endpoint.most_bytes < MAX_REQUEST_BYTES, "this endpoint needs less"


VALUES: list[tuple[object, int]] = [
    ({}, 1),
    ({"a": 1}, 1),
    ({"a": 'x,[{"\\,,,,\\\\"', "b\\": "\\", 'c"': '\\\\",",'}, 3),
    ({"a": [1, 2, [3], {"b": "4"}]}, 7),
    ({"ids": list(range(50))}, 51),
    ({str(number): "," for number in range(60)}, 60),
    ({"a": [[], {}]}, 5),
]


@pytest.mark.parametrize(("content", "values"), VALUES)
@pytest.mark.parametrize("in_ascii", [True, False])
def test_values_are_counted_outside_of_strings(content: object, values: int, in_ascii: bool) -> None:
    """Whatever a text contains, only the structure counts."""
    text = json.dumps(content, ensure_ascii=in_ascii).encode()
    assert not has_more_values(text, values)
    assert has_more_values(text, values - 1)


def test_a_text_full_of_structure_is_no_structure() -> None:
    """A message of any characters passes."""
    body = ',[{"\\' * (MAX_BODY_BYTES // 5)
    text = json.dumps({"to": "ann", "body": body}).encode()
    assert cast(SendRequest, parsed_body(SendRequest, text, MOST_VALUES)).body == body


def repeated(begin: str, part: str, end: str, size: int = MAX_REQUEST_BYTES) -> bytes:
    """Return a text of at most `size` bytes; `%d` in `part` is a running number."""
    parts, length, number = [], len(begin) + len(end), 0
    while length < size - 20:
        parts.append(part.replace("%d", str(number)))
        length += len(parts[-1]) + 1
        number += 1
    return f"{begin}{','.join(parts)}{end}".encode()


COSTLY: dict[str, tuple[type[Request], bytes, int]] = {
    "unknown keys": (SendRequest, repeated("{", '"%d":1', "}"), MOST_VALUES),
    "keys with escapes": (SendRequest, repeated("{", '"%d\\\\\\"\\\\":1', "}"), MOST_VALUES),
    "keys and texts": (SendRequest, repeated("{", '"%d":",,,,"', "}"), MOST_VALUES),
    "backslashes": (SendRequest, repeated('{"to":"', "\\\\" * 500, '"}'), MOST_VALUES),
    "quotes": (SendRequest, repeated('{"to":"', '\\"' * 500, '"}'), MOST_VALUES),
    "ids": (AckRequest, repeated('{"instance":"instance-1","ids":[', "1", "]}"), MOST_VALUES_WITH_IDS),
    "texts for ids": (
        AckRequest,
        json.dumps({"instance": "instance-1", "ids": ["a"] * 10_000}).encode(),
        MOST_VALUES_WITH_IDS,
    ),
    "depth": (SendRequest, b'{"to":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", MOST_VALUES),
    "unknown keys of a spawn": (
        SpawnRequest,
        json.dumps({"name": "a", "config": {str(number): 1 for number in range(9_990)}}).encode(),
        MOST_VALUES_OF_SPAWN,
    ),
    "a long number": (SendRequest, b'{"to":' + b"9" * 2_000_000 + b"}", MOST_VALUES),
    "a long key": (SendRequest, b'{"' + b"\\u0001" * 300_000 + b'":1}', MOST_VALUES),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_malformed_body_costs_little(kind: str) -> None:
    """It is refused before the event loop has been kept for long, whatever it consists of."""
    model, text, most = COSTLY[kind]
    taken = []
    for _ in range(3):
        began = time.process_time()
        with pytest.raises(HiveError) as refusal:
            parsed_body(model, text, most)
        taken.append(time.process_time() - began)
    assert refusal.value.code in ("invalid_request", "bad_name")
    assert len(refusal.value.message) < 2_000
    assert min(taken) < MOST_SECONDS, taken


def test_many_faults_are_counted_and_a_few_are_shown() -> None:
    """Five are shown; above 200 their number alone, as they could only be listed all together."""
    for count, end in ((7, "and 2 more"), (200, "and 195 more"), (201, "the body has 201 faults")):
        text = json.dumps({"to": "ann", "body": "x", **{str(number): 1 for number in range(count)}}).encode()
        with pytest.raises(HiveError) as refusal:
            parsed_body(SendRequest, text, 1_000)
        assert refusal.value.message.endswith(end)


class ArrivedBody:
    """A body that arrives in two pieces."""

    def __init__(self, text: bytes) -> None:
        self._pieces = [text[:10], text[10:]]

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Arrived:
    """A request whose body has arrived."""

    def __init__(self, text: bytes) -> None:
        self.content_length = len(text)
        self._text = text

    @property
    def content(self) -> ArrivedBody:
        return ArrivedBody(self._text)


async def test_large_bodies_of_a_caller_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a large body the next one of its caller waits; another caller's, and small ones, do not."""
    monkeypatch.setattr(bodies, "_PAUSE", 1_000_000.0)  # The first one's turn does not end.
    endpoint = WITH_BODY["agents_endpoints /v1/messages"]
    large = cast(web.BaseRequest, Arrived(json.dumps({"to": "ann", "body": "x" * 100_000}).encode()))
    small = cast(web.BaseRequest, Arrived(b'{"to": "ann", "body": "x"}'))
    parser = bodies.BodyParser()
    for caller, request in (("bad", large), ("good", large), ("bad", small), ("bad", small)):
        async with asyncio.timeout(20):
            assert isinstance(await parser.parse(caller, endpoint, request), SendRequest)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await parser.parse("bad", endpoint, large)


async def test_the_next_large_body_is_parsed_after_a_pause() -> None:
    """A turn ends also when the body was refused."""
    parser, endpoint = bodies.BodyParser(), WITH_BODY["agents_endpoints /v1/messages"]
    wrong = cast(web.BaseRequest, Arrived(b" " * 100_000 + b"[]"))
    for _ in range(3):
        with pytest.raises(HiveError):
            async with asyncio.timeout(20):
                await parser.parse("bad", endpoint, wrong)


async def test_a_body_above_the_endpoints_limit_is_not_parsed() -> None:
    """The refusal names the limit, whether the length was announced or not."""
    endpoint = WITH_BODY["agents_endpoints /v1/messages/ack"]
    for announced in (True, False):
        request = Arrived(b"[" * (endpoint.most_bytes + 1))
        request.content_length *= announced
        with pytest.raises(HiveError, match=f"more than {endpoint.most_bytes} bytes") as refusal:
            await bodies.BodyParser().parse("ann", endpoint, cast(web.BaseRequest, request))
        assert (refusal.value.code, refusal.value.status) == ("request_too_large", 413)
