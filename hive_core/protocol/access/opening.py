"""The opening of a session, which the daemon writes and the agent's side reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from hive_core.protocol.access.frames import OPENING, BadFrame, decode_json, encode_json

SessionKind = Literal["run", "get", "put", "connect", "forward"]
KINDS: tuple[SessionKind, ...] = ("run", "get", "put", "connect", "forward")


class Terminal(NamedTuple):
    """The caller's terminal: its size, and its type as in the variable TERM."""

    columns: int
    rows: int
    term: str


@dataclass(frozen=True)
class Opening:
    """A session as the daemon opens it.

    `who` is the caller as in the audit log. `argv` is empty for a login shell; `directory` is empty for the directory
    in which turns work; `environment` is added to the variables that a turn has. Those are selected by `backend` and
    `variables`, the names in the agent's configuration, and `secrets` are its names of secrets. `port` is that of
    `connect` and `forward`, `path` that of `get` and `put`; `name` is the name of what is put, and `into` if the path
    must be a directory.
    """

    kind: SessionKind
    who: str = ""
    argv: tuple[str, ...] = ()
    terminal: Terminal | None = None
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    path: str = ""
    name: str = ""
    into: bool = False
    backend: str = ""
    variables: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def as_request(self) -> dict[str, Any]:
        """Return the body with which a caller asks the daemon for this session; what has its default is left out."""
        given = asdict(self)
        if self.terminal is not None:
            given["terminal"] = self.terminal._asdict()
        for key in ("who", "backend", "variables", "secrets"):  # The daemon's to say.
            del given[key]
        return {key: value for key, value in given.items() if value}

    def encode(self) -> bytes:
        """Return the frame OPENING."""
        return encode_json(OPENING, asdict(self))


def decode_opening(content: bytes) -> Opening:
    """Return the content of the frame OPENING; unknown keys are ignored. Raises BadFrame."""
    found = decode_json(content)
    kind = found.get("kind")
    if kind not in KINDS:
        raise BadFrame(f"an opening of the kind {kind!r}")
    try:
        terminal = found.get("terminal")
        return Opening(
            kind=kind,
            who=str(found.get("who", "")),
            argv=tuple(str(part) for part in found.get("argv", ())),
            terminal=None if terminal is None else Terminal(int(terminal[0]), int(terminal[1]), str(terminal[2])),
            directory=str(found.get("directory", "")),
            environment={str(name): str(value) for name, value in found.get("environment", {}).items()},
            port=int(found.get("port", 0)),
            path=str(found.get("path", "")),
            name=str(found.get("name", "")),
            into=bool(found.get("into", False)),
            backend=str(found.get("backend", "")),
            variables=tuple(str(name) for name in found.get("variables", ())),
            secrets=tuple(str(name) for name in found.get("secrets", ())),
        )
    except (TypeError, ValueError, LookupError, AttributeError):
        raise BadFrame("an opening with a value of the wrong type") from None
