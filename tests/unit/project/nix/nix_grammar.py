"""The content of a .nix file by its syntax alone: attribute paths and what is bound to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import tree_sitter_nix
from tree_sitter import Language, Node, Parser

_LANGUAGE = Language(tree_sitter_nix.language())
_SPACE = rb"(?:\s|#[^\n]*|/\*(?s:.*?)\*/)*+"
_LAST_COMMA = re.compile(rb",(?=%(space)s\}%(space)s[:@])" % {b"space": _SPACE})


def parse(file: Path) -> Node:
    """Return the root of the file's tree; it has errors where the file is not Nix.

    The grammar (tree-sitter-nix 0.1.0) does not know the comma after a function's last argument, `{ a, b, }: ...`,
    which Nix accepts and its formatter writes: such a comma becomes a space, so that every position stays.
    """
    source = file.read_bytes()
    root = Parser(_LANGUAGE).parse(source).root_node
    return Parser(_LANGUAGE).parse(_LAST_COMMA.sub(b" ", source)).root_node if root.has_error else root


def text(node: Node) -> str:
    """The node as it stands in the file."""
    return (node.text or b"").decode()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in node.children:
        yield from walk(child)


def bindings(expression: Node) -> Iterator[tuple[str, Node]]:
    """`name = value` directly in an attribute set, with dotted names as they are; not those of `let` or deeper sets."""
    for child in expression.children:
        if child.type == "binding_set":
            yield from bindings(child)
        elif child.type == "binding":
            path, value = child.child_by_field_name("attrpath"), child.child_by_field_name("expression")
            assert path is not None
            assert value is not None
            yield text(path), value


def binding(root: Node, name: str) -> Node:
    """The value of the only binding of this name, anywhere in the file."""
    found = [
        value
        for node in walk(root)
        if node.type in {"attrset_expression", "rec_attrset_expression", "let_expression"}
        for key, value in bindings(node)
        if key == name
    ]
    assert len(found) == 1, f"{name} is bound {len(found)} times"
    return found[0]
