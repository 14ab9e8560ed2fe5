"""The `flake.lock` that an agent's flake starts with: hyperhive pinned to what the daemon has fetched.

The format is version 7 of the Nix manual's "Lock files". Nix adds the agent's own input and keeps the rest, so a
build fetches nothing of hyperhive's: it need not be able to, and what it builds with is what was looked at.

`nix flake metadata --json` tells more of a flake than a lock file may hold: since 2.25 `__final` in `locked`, which
ends Nix with an assertion when it stands in a file. So only those keys of a node are written that the format has, and
of a flake reference no key that begins with `__`, which are Nix's own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_VERSION = 7
_INPUT = "hyperhive"
_NODE_KEYS = ("flake", "inputs", "locked", "original", "parent")
_INTERNAL = "__"


def lock(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """A lock file made of what `nix flake metadata --json` told of hyperhive; None if that is of another form."""
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


def _below(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node as it is one level further down: lists are ways from the root, and that is hyperhive's no more."""
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
    """Whether a node is of the form that is written here; one that has hyperhive itself as an input is not."""
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
