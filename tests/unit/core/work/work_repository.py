"""Bare repositories with trees of every kind, written without git's own checks."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.git_repos import git


class WorkRepository:
    """A bare repository in which any object can be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        git(path.parent, "init", "-q", "--bare", "--template=", path.name)

    def write(self, kind: str, data: bytes) -> str:
        """Write an object as it is."""
        whole = b"%s %d\0%s" % (kind.encode(), len(data), data)
        sha = hashlib.sha1(whole).hexdigest()
        path = self.path / "objects" / sha[:2] / sha[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return sha

    def blob(self, data: bytes | str) -> str:
        return self.write("blob", data.encode() if isinstance(data, str) else data)

    def raw_tree(self, entries: Sequence[tuple[str, str, str]]) -> str:
        """A tree of (mode, name, object) in the order given, whatever git says of it."""
        data = [f"{mode} {name}".encode() + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries]
        return self.write("tree", b"".join(data))

    def tree(self, entries: dict[str, tuple[str, str]]) -> str:
        """A tree of name to (mode, content), nested where a name has slashes; the content of a submodule is its id."""
        below: dict[str, dict[str, tuple[str, str]]] = {}
        lines: list[tuple[str, str, str]] = []
        for name, (mode, content) in entries.items():
            top, _, rest = name.partition("/")
            if rest:
                below.setdefault(top, {})[rest] = (mode, content)
            else:
                lines.append((mode, name, content if mode == "160000" else self.blob(content)))
        lines += [("40000", name, self.tree(inner)) for name, inner in below.items()]
        return self.raw_tree(sorted(lines, key=lambda line: line[1] + "/" * (line[0] == "40000")))

    def commit(self, tree: str, *parents: str, message: str = "a change\n") -> str:
        who = "ada <ada@x> 1700000000 +0000"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}"]
        return self.write("commit", "\n".join([*lines, "", message]).encode())
