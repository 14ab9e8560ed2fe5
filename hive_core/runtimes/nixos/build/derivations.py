"""Derivations: what Nix would have to build, as its dry run tells, and what a derivation does, as its file tells.

The files are read as they are: their form ("ATerm", Nix manual, "Store Derivation and Deriving Path") has been the same
since the first versions of Nix, while the JSON of `nix derivation show` has had several.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.infra.storage.files import read_bytes
from hive_core.runtimes.base import BuildFailed, Fetch
from hive_core.text import one_line

_BYTES = 4 * 1024 * 1024
"""Bytes of the largest derivation that is read."""
# Possessive, because an evaluation that nobody has approved wrote the text: the engine would otherwise keep a point of
# return for each character of a string.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\](),]', re.DOTALL)
_TOKENS = 1_000_000
"""Strings, brackets and commas of a derivation that are read: a string takes far more memory than its text."""
_ADDRESS_KEYS = ("url", "urls")
_STRUCTURED = "__json"
"""The variable that holds structured attributes."""
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_DEEPEST = 8
_OUTPUT_PARTS = 4


@dataclass(frozen=True)
class Output:
    """An output of a derivation. `method` is "sha256", or "r:sha256" for the hash of a tree; both it and `digest`,
    which is in base 16, are empty unless the hash of the output is fixed.
    """

    path: str
    method: str
    digest: str


@dataclass(frozen=True)
class Derivation:
    """A derivation: its outputs, the derivations that it needs, and its program.

    `environment` holds the variables that may name addresses, and only those of fixed-output derivations: the others
    are not needed, and have any size. `size` is the bytes of the file.
    """

    path: str
    outputs: Mapping[str, Output]
    inputs: Sequence[str]
    program: str
    environment: Mapping[str, str]
    size: int = 0

    @property
    def fixed(self) -> Output | None:
        """The output of a fixed-output derivation, whose builder gets the network; None for others."""
        return next((output for output in self.outputs.values() if output.digest), None)


def read_derivation(path: Path) -> Derivation:
    """Read a derivation from the store. Raises BuildFailed if it is of a kind that the hive does not build. Blocks."""
    try:
        content = read_bytes(path, _BYTES + 1)
    except OSError as error:
        raise BuildFailed(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _BYTES:
        raise BuildFailed(f"{path} is larger than {_BYTES:,} bytes")
    return parse_derivation(str(path), content)


def parse_derivation(path: str, content: bytes) -> Derivation:
    """Parse the file of a derivation. Raises BuildFailed for another form, and for outputs whose paths are not fixed,
    which content-addressed and impure derivations have. Pure.
    """
    try:
        name, terms = _parse(content)
        outputs, inputs, _, _, program, _, environment = terms
        found = Derivation(
            path=path,
            outputs={key: Output(*_texts(parts, _OUTPUT_PARTS - 1)) for key, *parts in outputs},
            inputs=[_texts([one], 1)[0] for one, _ in inputs],
            program=_texts([program], 1)[0],
            environment=dict(_pair(pair) for pair in environment),
            size=len(content),
        )
    except (ValueError, TypeError, IndexError):
        name, found = b"", None
    if name != b"Derive" or found is None:
        raise BuildFailed(f"{path} is not a derivation in a form that is known")
    for output in found.outputs.values():
        if not output.path or bool(output.method) != bool(output.digest) or output.digest == "impure":
            raise BuildFailed(f"{path} is a content-addressed or impure derivation; only others are built here")
    kept = (*_ADDRESS_KEYS, _STRUCTURED) if found.fixed is not None else ()
    return replace(found, environment={key: found.environment[key] for key in kept if key in found.environment})


def _parse(content: bytes) -> tuple[bytes, list[Any]]:
    """Return the name of a term and its parts: strings, and lists for lists and tuples."""
    start = content.find(b"(")
    stack: list[list[Any]] = []
    position, tokens = start, 0
    if start < 0:
        raise ValueError(start)
    while position < len(content):
        token = _TOKEN.match(content, position)
        if token is None:
            raise ValueError(position)
        position, text, tokens = token.end(), token[0], tokens + 1
        if tokens > _TOKENS:
            raise ValueError(tokens)
        if text in (b"[", b"("):
            stack.append([])
            if len(stack) > _DEEPEST:
                raise ValueError(position)
        elif text in (b"]", b")"):
            done = stack.pop()
            if not stack:
                if position != len(content):
                    raise ValueError(position)
                return content[:start], done
            stack[-1].append(done)
        elif text != b",":
            stack[-1].append(_string(text))
    raise ValueError(position)


def _string(token: bytes) -> str:
    text = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), token[1:-1])
    return text.decode(errors="replace")


def _texts(parts: Sequence[object], number: int) -> list[str]:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != number or len(parts) != number:
        raise ValueError(parts)
    return texts


def _pair(parts: Sequence[object]) -> tuple[str, str]:
    key, value = _texts(parts, 2)
    return key, value


def fetch_of(derivation: Derivation, output: Output) -> Fetch:
    """Describe a fixed-output derivation as a fetch. Pure."""
    return Fetch(
        name=Path(output.path).name[33:],
        urls=_urls(derivation.environment),
        hash=_hash(output),
        derivation=derivation.path,
        program=derivation.program,
    )


def _urls(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses that a derivation names: in `url` and `urls`, also as structured attributes."""
    found: list[str] = []
    try:
        structured = json.loads(environment.get(_STRUCTURED, "{}"))
    except (ValueError, RecursionError):
        structured = {}
    for source in (environment, structured if isinstance(structured, dict) else {}):
        for key in _ADDRESS_KEYS:
            value = source.get(key, "")
            words = value if isinstance(value, list) else [value]
            # An address has no blanks: what an author writes after one is shown as another, not as a part of it.
            found += [part for word in words if isinstance(word, str) for part in word.split()]
    return tuple(dict.fromkeys(found))


def _hash(output: Output) -> str:
    """Return the hash as Nix shows it: "sha256-" and base 64."""
    algorithm = output.method.rpartition(":")[2]
    try:
        digest = base64.b64encode(bytes.fromhex(output.digest)).decode()
    except ValueError:
        digest = output.digest
    return f"{algorithm}-{digest}"


@dataclass(frozen=True)
class Plan:
    """The missing part of a closure: the derivations to build, and the paths that substituters have, which take
    `unpacked_bytes` in the store.
    """

    builds: Sequence[str] = ()
    substitutes: Sequence[str] = ()
    unpacked_bytes: float = 0


_BUILT = re.compile(r"(?:this derivation|these (?P<number>\d+) derivations) will be built:")
_FETCHED = re.compile(
    r"(?:this path|these (?P<number>\d+) paths) will be fetched"
    r" \([0-9.]+ [KMGTP]?i?B download, (?P<size>[0-9.]+) (?P<unit>[KMGTP]?)i?B unpacked\):"
)
_UNKNOWN = "don't know how to build these paths"
_NOTES = ("warning:", "error (ignored)")
"""Messages of Nix beside its answer: of substituters that do not answer, for example."""
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_plan(answer: str, store: Path) -> Plan:
    """Parse what `nix-store --realise --dry-run` writes to its standard error. Pure.

    Raises BuildFailed if a path can neither be built nor fetched, and HiveError `cannot_build` for another form:
    nothing is guessed.
    """
    lists: dict[str, tuple[int, list[str]]] = {}
    size, current = 0.0, ""
    for line in answer.splitlines():
        if match := _BUILT.fullmatch(line):
            current = "builds"
        elif match := _FETCHED.fullmatch(line):
            current, size = "substitutes", float(match["size"]) * 1024 ** _UNITS[match["unit"]]
        elif line.startswith(_UNKNOWN):
            raise BuildFailed(f"Nix does not know how to build everything: {one_line(answer, 500)}")
        elif current and line.startswith(f"  {store}/"):
            lists[current][1].append(line.strip())
            continue
        elif not line.strip() or line.startswith(_NOTES):
            continue
        else:
            raise _unknown_answer(line)
        if current in lists:
            raise _unknown_answer(line)
        lists[current] = (int(match["number"] or 1), [])
    for number, paths in lists.values():
        if number != len(paths):
            raise _unknown_answer(f"{number} paths are announced, {len(paths)} listed")
    builds, substitutes = (lists.get(key, (0, []))[1] for key in ("builds", "substitutes"))
    return Plan(builds, substitutes, size)


def _unknown_answer(what: str) -> HiveError:
    return HiveError(
        "cannot_build",
        f"nix-store --realise --dry-run answers in a form that is not known: {one_line(what, 300)}",
        hint="this version of Nix is not among those that were tested",
        status=500,
    )
