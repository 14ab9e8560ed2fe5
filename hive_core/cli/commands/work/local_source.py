"""A repository on this host, which the command line reads as the person who types, and sends to the daemon."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_core.cli.errors import Failure
from hive_core.text import shown

_PIECE = 256 * 1024
_SECONDS = 120.0


@dataclass(frozen=True)
class LocalRefs:
    """The branches and tags of a repository, in the form of `git ls-remote --symref`, and the ids in them."""

    text: str
    ids: frozenset[str]


class LocalRepository:
    """A repository that this user can read. Its hooks and file system monitor are not run."""

    def __init__(self, path: Path) -> None:
        """Raises Failure `no_repository` for a path without a whole repository."""
        self.path = path.absolute()
        if self._run("rev-parse", "--is-shallow-repository").strip() == "true":
            hint = f"git -C {self.path} fetch --unshallow"
            raise Failure("no_repository", f"{shown(str(self.path))} lacks the older part of its history", hint=hint)

    def refs(self) -> LocalRefs:
        """Return the branches and tags."""
        lines = self._run("for-each-ref", "--format=%(objectname)%09%(refname)", "refs/heads", "refs/tags").splitlines()
        head = self._run("symbolic-ref", "-q", "HEAD", check=False).strip()
        first = [f"ref: {head}\tHEAD"] if head.startswith("refs/heads/") else []
        ids = frozenset(line.partition("\t")[0] for line in lines)
        return LocalRefs("".join(f"{line}\n" for line in (*first, *lines)), ids)

    def pack(self, wanted: Sequence[str], known: Sequence[str]) -> Iterator[bytes]:
        """Yield a pack of what `wanted` reaches and `known`, as far as it is here, does not."""
        have = self._run("cat-file", "--batch-check=%(objectname)", feed="".join(f"{each}\n" for each in known))
        haves = [f"^{line}\n" for line in have.splitlines() if not line.endswith(" missing")]
        arguments = ("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset")
        process = subprocess.Popen(  # noqa: S603 - no shell
            self._line(*arguments), env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        feed = "".join([*(f"{each}\n" for each in wanted), *haves]).encode()
        writer = threading.Thread(target=_write, args=(process.stdin, feed), daemon=True)
        writer.start()
        try:
            while piece := process.stdout.read(_PIECE):
                yield piece
            if process.wait() != 0:
                raise Failure("no_repository", f"git cannot read {shown(str(self.path))}", hint="see its message above")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def _line(self, *arguments: str) -> list[str]:
        safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
        return ["git", "-C", str(self.path), *safe, *arguments]

    def _run(self, *arguments: str, feed: str = "", check: bool = True) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                self._line(*arguments),
                env=_environment(),
                input=feed,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise Failure("program_missing", "git is not installed", hint="install git 2.36 or newer") from None
        except subprocess.TimeoutExpired:
            raise Failure("no_repository", f"git did not answer within {_SECONDS:g} s") from None
        if check and done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no error message"]
            why = f"{shown(str(self.path))} is no repository that you can read: {shown(lines[0][:300])}"
            raise Failure("no_repository", why, hint="give the path of a git repository, or a URL")
        return done.stdout


def _write(stdin: object, feed: bytes) -> None:
    assert hasattr(stdin, "write") and hasattr(stdin, "close")
    try:
        stdin.write(feed)
        stdin.close()
    except BrokenPipeError:
        pass


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
