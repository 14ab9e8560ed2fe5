"""The parser of an agent's `agent.toml`, and the check of its limits against the ceilings.

Syntax errors are reported with their line, wrong values with the path of their key.

A configuration that was deployed under higher ceilings stays deployed: its limits are lowered at the next start.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from hive_core.agents.grants.limits import above_ceiling, excesses
from hive_core.errors import HiveError
from hive_core.errors.faults import find_faults
from hive_core.protocol import AgentConfig
from hive_core.protocol.network.entries import MAX_HOST_CHARACTERS, read_host
from hive_core.protocol.network.rules import BadRule
from hive_core.settings import LimitCeilings
from hive_core.text import printable_line

TOML_MOST = 64 * 1024
"""The largest agent.toml, in bytes."""
_SHOWN_FAULTS = 5
_TEXT_MOST = 300
_DOTTED_MOST = 64
# Short keys only, so that the search is quick: the file has no room for many longer ones.
_KEY = r"""(?>[\w-]{1,60}|"(?:[^"\\\n]|\\.){0,60}"|'[^'\n]{0,60}')"""
# The time of tomllib grows with the square of the number of joined keys, or faster.
_DOTTED = re.compile(rf"(?<![\w-]){_KEY}(?:[ \t]{{0,60}}\.[ \t]{{0,60}}{_KEY}){{{_DOTTED_MOST}}}", re.ASCII)
_AT = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$", re.DOTALL)
_TWICE = re.compile(r"Cannot (?:overwrite a value|mutate immutable namespace|declare .{0,200} twice)")
_HINT = f"known keys: {', '.join(AgentConfig.model_fields)}"


def parse_config(data: bytes) -> AgentConfig:
    """Return the settings in agent.toml. Raises `bad_agent_toml`, which names the first few of many errors."""
    if len(data) > TOML_MOST:
        raise toml_too_large(len(data))
    document = _parsed(_decoded(data))
    try:
        return _with_normal_hosts(AgentConfig.model_validate(document))
    except ValidationError as error:
        count, found = error.error_count(), find_faults(error, AgentConfig, _SHOWN_FAULTS)
    faults = [f"{each.place}: {each.reason}" for each in found]
    if count > _SHOWN_FAULTS:
        faults.append(f"and {count - _SHOWN_FAULTS:,} more")
    raise HiveError("bad_agent_toml", f"agent.toml: {'; '.join(faults)}", hint=_HINT)


def _with_normal_hosts(config: AgentConfig) -> AgentConfig:
    """Return the settings with each allowed host in its normal spelling. Raises `bad_agent_toml`."""
    hosts = []
    for number, text in enumerate(config.allowed_hosts):
        try:
            hosts.append(read_host(text))
        except BadRule as why:
            what = f"agent.toml: allowed_hosts[{number}]: {printable_line(str(why), _TEXT_MOST)}"
            hint = "write a host as crates.io, *.crates.io or github.com:22, or name a set"
            raise HiveError("bad_agent_toml", what, hint=hint) from None
    if sum(map(len, hosts)) > MAX_HOST_CHARACTERS:
        what = f"agent.toml: allowed_hosts: it has more than {MAX_HOST_CHARACTERS:,} characters"
        raise HiveError("bad_agent_toml", what, hint="name sets, or *.host for hosts below one")
    return config if hosts == config.allowed_hosts else config.model_copy(update={"allowed_hosts": hosts})


def toml_too_large(size: int) -> HiveError:
    """Return the error for an agent.toml of more than TOML_MOST bytes."""
    why = f"agent.toml has {size:,} bytes, at most {TOML_MOST:,} are allowed"
    return HiveError("bad_agent_toml", why, hint="long texts belong into prompt.md or files of their own")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(line, "not valid UTF-8") from None


def _parsed(text: str) -> dict[str, Any]:
    if dotted := _DOTTED.search(text):
        line = text.count("\n", 0, dotted.start()) + 1
        raise _bad(line, f"more than {_DOTTED_MOST} names are joined by dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _bad(None, "arrays or tables are nested too deeply") from None
    except ValueError as error:
        # TOMLDecodeError, and the errors of Python's numbers and dates.
        match = _AT.match(str(error))
        if match is None:
            raise _bad(None, str(error)) from None
        line = int(match["line"]) if match["line"] else text.rstrip("\n").count("\n") + 1
        if _TWICE.match(match["what"]) and (twice := _given_before(text.split("\n"), line)):
            raise _bad(line, twice) from None
        raise _bad(line, match["what"]) from None


def _given_before(lines: Sequence[str], line: int) -> str:
    """Say where the key or table of a line stands before; "" if it is written in another way there."""
    key = lines[line - 1].split("=")[0].strip(" \t[]") if line <= len(lines) else ""
    for number, earlier in enumerate(lines[: line - 1], start=1):
        if key and earlier.split("=")[0].strip(" \t[]") == key:
            return f"{key} is there already, in line {number}: remove one of the two"
    return ""


def _bad(line: int | None, what: str) -> HiveError:
    where = "agent.toml" if line is None else f"agent.toml, line {line}"
    return HiveError(
        "bad_agent_toml", f"{where}: {printable_line(what, _TEXT_MOST)}", hint="see toml.io for how TOML is written"
    )


def check_ceilings(config: AgentConfig, ceilings: LimitCeilings) -> None:
    """Raise `above_ceiling`, which names the keys, if settings ask for more than the ceilings."""
    if found := excesses(config, ceilings):
        raise above_ceiling(found)
