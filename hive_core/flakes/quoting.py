"""Values as Nix expressions that evaluate to exactly them, and paths as flake references.

The grammar is that of the Nix manual, "Data types"; references are those of nix3-flake(1), "URL-like syntax".
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
"""`$` wherever it stands, so that nobody has to know when `${` and `$$` begin something. A carriage return that is
written as it is would be read as a newline.
"""
_LARGEST = 2**63 - 1


def string(text: str) -> str:
    """A string literal. Raises ValueError for what no Nix string can hold: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        raise ValueError("a string in Nix cannot hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string in Nix cannot hold half of a surrogate pair") from None
    return f'"{text.translate(_ESCAPED)}"'


def integer(number: int) -> str:
    """An integer, in brackets if it is negative. Raises ValueError beyond 64 bits."""
    if not -_LARGEST - 1 <= number <= _LARGEST:
        raise ValueError("an integer in Nix has 64 bits")
    if number >= 0:
        return str(number)
    # A sign is an operator on a literal, and the literal of the lowest would not fit.
    return f"({number})" if number >= -_LARGEST else f"(-{_LARGEST} - 1)"


def value(found: object) -> str:
    """A string, an integer or a truth value as Nix; raises TypeError for anything else, ValueError as above."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return integer(found)
    if isinstance(found, str):
        return string(found)
    raise TypeError(f"there is no way to write a {type(found).__name__} in Nix here")


def git_reference(repository: Path, ref: str, commit: str) -> str:
    """A flake reference to one commit of a git repository on this machine. Raises ValueError unless its path is
    absolute and can be written.
    """
    return f"git+file://{_path(repository)}?ref={quote(ref, safe='/')}&rev={quote(commit, safe='')}"


def path_reference(directory: Path) -> str:
    """A flake reference to a directory on this machine.

    Versions of Nix differ in whether they decode it, so ValueError is raised for a path that has to be encoded.
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
