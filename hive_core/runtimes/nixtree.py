"""The syntax tree of a Nix text.

The grammar (tree-sitter-nix 0.1.0) does not know the comma after a function's last argument, `{ a, b, }: ...`, which
Nix takes and its formatter puts. To the parser such a comma is a space, so that every place stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import tree_sitter_nix
from tree_sitter import Language, Node, Parser

LANGUAGE = Language(tree_sitter_nix.language())
_SPACE = rb"(?:\s|#[^\n]*|/\*(?s:.*?)\*/)*+"
_LAST = re.compile(rb",(?=%(space)s\}%(space)s[:@])" % {b"space": _SPACE})
"""A comma behind which a function's arguments end. There may be some in strings and comments, where it does not
matter.
"""


def tree(source: bytes) -> Node:
    """The root of the tree; it has errors where `source` is not Nix. Takes long for a hostile text."""
    return _parse(as_the_grammar_has_it(source))


def as_the_grammar_has_it(source: bytes) -> bytes:
    """`source` without the commas that Nix takes and the grammar does not; what is wrong in it stays so."""
    if not _parse(source).has_error:
        return source
    commas = [found.start() for found in _LAST.finditer(source)]
    text = _blanked(source, commas)
    root = _parse(text)
    if root.has_error:
        return text  # Something else is wrong, and is to be found.
    return _blanked(source, [place for place in commas if not _is_wrong(root, place)])


def _is_wrong(root: Node, place: int) -> bool:
    """Whether what was a comma at `place` stood behind no argument, as in `{ , }:` and `{ ..., }:`."""
    node = root.descendant_for_byte_range(place, place + 1)
    if node is None or node.type != "formals":
        return False
    before = [child.type for child in node.children if child.end_byte <= place and child.type != "comment"]
    return before[-1] != "formal"


def _parse(text: bytes) -> Node:
    return Parser(LANGUAGE).parse(text).root_node


def _blanked(source: bytes, places: Collection[int]) -> bytes:
    text = bytearray(source)
    for place in places:
        text[place] = ord(" ")
    return bytes(text)
