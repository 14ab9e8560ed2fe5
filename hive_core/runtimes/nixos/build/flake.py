"""The flake of an agent: text, quoting, lock file.

The grammar is that of the Nix manual, "Data types"; references are those of nix3-flake(1), "URL-like syntax".

The format is version 7 of the Nix manual's "Lock files". The lock file is complete: hyperhive, its inputs, and the
agent's files by their path in the store and their hash. An evaluation fetches nothing, and what it uses is what was
looked at and what the daemon has added to the store.

`nix flake metadata --json` tells more of a flake than a lock file may hold: since 2.25 `__final` in `locked`, which
ends Nix with an assertion when it stands in a file. So only those keys of a node are written that the format has, and
of a flake reference no key that begins with `__`, which are Nix's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hive_core.protocol import Kind

if TYPE_CHECKING:
    from jinja2 import Template


ATTRIBUTE = "nixosConfigurations.container.config.system.build.toplevel"
"""The attribute of the flake that is built."""


@dataclass(frozen=True)
class AgentFlake:
    """The inputs of an agent's system. `hyperhive` is a flake reference, `system` Nix's name of the platform
    ("x86_64-linux"); `source` is the store path of the commit's files.
    """

    hyperhive: str
    system: str
    name: str
    kind: Kind
    source: Path
    commit: str


def render(flake: AgentFlake) -> str:
    """Return the text of `flake.nix`; each value becomes one literal. Raises ValueError if Nix cannot hold a value."""
    return _template().render(
        description=f"{flake.name} of this hive, at {flake.commit[:12]}",
        hyperhive=flake.hyperhive,
        agent=path_reference(flake.source),
        system=flake.system,
        name=flake.name,
        kind=flake.kind,
    )


@cache
def _template() -> Template:
    # Imported here: only hives on NixOS need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    # Nix is not HTML; `finalize` quotes every value, so that the template cannot forget to.
    environment = Environment(
        loader=PackageLoader("hive_core.runtimes.nixos.build", ""),
        finalize=nix_value,
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    return environment.get_template("flake.nix.j2")


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
"""`$` wherever it stands, so that nobody has to know when `${` and `$$` begin something. A carriage return that is
written as it is would be read as a newline.
"""
_LARGEST = 2**63 - 1


def nix_string(text: str) -> str:
    """Return a string literal. Raises ValueError for NUL and lone surrogates, which no Nix string can hold."""
    if "\0" in text:
        raise ValueError("a string in Nix cannot hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string in Nix cannot hold half of a surrogate pair") from None
    return f'"{text.translate(_ESCAPED)}"'


def nix_integer(number: int) -> str:
    """Return an integer literal, in brackets if it is negative. Raises ValueError beyond 64 bits."""
    if not -_LARGEST - 1 <= number <= _LARGEST:
        raise ValueError("an integer in Nix has 64 bits")
    if number >= 0:
        return str(number)
    # A sign is an operator on a literal, and the literal of the lowest would not fit.
    return f"({number})" if number >= -_LARGEST else f"(-{_LARGEST} - 1)"


def nix_value(found: object) -> str:
    """Return a string, integer or truth value as Nix. Raises TypeError for other types, and ValueError as above."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return nix_integer(found)
    if isinstance(found, str):
        return nix_string(found)
    raise TypeError(f"there is no way to write a {type(found).__name__} in Nix here")


def path_reference(directory: Path) -> str:
    """Return a flake reference to a directory on this machine.

    Raises ValueError for a path that must be encoded, because not all versions of Nix decode it.
    """
    encoded = _path(directory)
    if encoded != str(directory):
        raise ValueError(f"{directory} cannot be written as a flake reference that every version of Nix reads alike")
    return f"path:{encoded}"


def _path(path: Path) -> str:
    if not path.is_absolute():
        raise ValueError(f"{path} is not absolute")
    if "\0" in str(path):
        raise ValueError("a path cannot hold a NUL character")
    return quote(bytes(path), safe="/")


_VERSION = 7
_INPUT = "hyperhive"
_AGENT = "agent"
_NODE_KEYS = ("flake", "inputs", "locked", "original", "parent")
_INTERNAL = "__"


def lock(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Make a lock file from the output of `nix flake metadata --json` for hyperhive; None if its form is not known."""
    locks = metadata.get("locks")
    if not isinstance(locks, dict) or locks.get("version") != _VERSION:
        return None
    nodes, root = locks.get("nodes"), locks.get("root")
    locked, original = metadata.get("locked"), metadata.get("original")
    if not (isinstance(nodes, dict) and isinstance(locked, dict) and isinstance(original, dict) and root in nodes):
        return None
    if "narHash" not in locked or not all(_known(node, root) for node in nodes.values()):
        return None
    own = _free(_INPUT, nodes)
    top = _free("root", [name for name in nodes if name != root])
    moved = {name: _below(node) for name, node in nodes.items() if name != root}
    moved[own] = _below({**nodes[root], "locked": locked, "original": original})
    moved[top] = {"inputs": {_INPUT: own}}
    return {"nodes": moved, "root": top, "version": _VERSION}


def with_agent(hyperhive: Mapping[str, Any], source: Path, nar_hash: str) -> dict[str, Any]:
    """Add the agent's files, which are in the store with that hash, to a lock file that `lock` has made."""
    nodes, top = dict(hyperhive["nodes"]), hyperhive["root"]
    own = _free(_AGENT, nodes)
    reference = {"type": "path", "path": str(source)}
    nodes[own] = {"flake": False, "locked": {**reference, "narHash": nar_hash}, "original": reference}
    nodes[top] = {"inputs": {**nodes[top]["inputs"], _AGENT: own}}
    return {**hyperhive, "nodes": nodes}


def _below(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node for one level further down: a list is a path from the root, which is no longer hyperhive."""
    changed = {key: node[key] for key in _NODE_KEYS if key in node}
    for key in ("locked", "original"):
        if isinstance(changed.get(key), dict):
            changed[key] = {name: value for name, value in changed[key].items() if not name.startswith(_INTERNAL)}
    if "inputs" in changed:
        changed["inputs"] = {
            name: [_INPUT, *target] if isinstance(target, list) else target
            for name, target in changed["inputs"].items()
        }
    if isinstance(changed.get("parent"), list):
        changed["parent"] = [_INPUT, *changed["parent"]]
    return changed


def _known(node: object, root: object) -> bool:
    """Return True if the form of a node is known; that of one with hyperhive itself as an input is not."""
    if not isinstance(node, dict):
        return False
    inputs = node.get("inputs", {})
    return isinstance(inputs, dict) and all(
        isinstance(target, list) or (isinstance(target, str) and target != root) for target in inputs.values()
    )


def _free(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
