"""The private directory in which a person edits an agent's configuration.

It has the files in `config`, as they were deployed in `deployed`, and in `edit.json` the agent and the commit that they
are from, so that an edit can go on later. Nothing of it is lost before the change is proposed.
"""

from __future__ import annotations

import base64
import json
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.cli.commands.agents.config_directory import ConfigFiles, read_files
from hive_core.cli.errors import Failure

FIRST = ("agent.nix", "agent.toml", "prompt.md")
"""The files that the editor opens."""


@dataclass(frozen=True)
class Files:
    """Files by path, and the paths of those that are programs."""

    contents: Mapping[str, bytes]
    executables: frozenset[str]

    def encoded(self) -> dict[str, object]:
        """Return the fields of a request."""
        contents = {path: base64.b64encode(data).decode() for path, data in self.contents.items()}
        return {"files": contents, "executables": sorted(self.executables)}

    def version(self, path: str) -> tuple[bytes | None, bool]:
        """Return the content of a file, None if there is none, and True if it is a program."""
        return self.contents.get(path), path in self.executables


def decode_answer(answer: Mapping[str, Any]) -> Files:
    """Return the files in an answer of the daemon. Raises Failure `bad_answer`."""
    try:
        contents = {str(path): base64.b64decode(text, validate=True) for path, text in answer["files"].items()}
        executables = frozenset(map(str, answer["executables"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise _bad_answer() from None
    if any(_leads_out(path) for path in contents):
        raise _bad_answer()
    return Files(contents, executables & contents.keys())


class EditDirectory:
    """A directory that only the person who edits can enter."""

    def __init__(self, path: Path, agent: str, base: str) -> None:
        self.path = path
        self.agent = agent
        self.base = base

    @property
    def files(self) -> Path:
        """The directory that is edited."""
        return self.path / "config"

    @property
    def deployed(self) -> Path:
        """The files that were deployed when the edit began, or went on."""
        return self.path / "deployed"

    @classmethod
    def make(cls, agent: str, base: str, files: Files) -> EditDirectory:
        """Make a directory with these files. Raises Failure `cannot_write`."""
        try:
            made = cls(Path(tempfile.mkdtemp(prefix=f"hive-edit-{agent}-")), agent, base)
            _write(made.files, files)
            _write(made.deployed, files)
            made._write_facts()
        except OSError as error:
            raise _cannot_write(error) from None
        return made

    @classmethod
    def open(cls, path: Path, agent: str) -> EditDirectory:
        """Open a directory that an earlier edit has left. Raises Failure `bad_edit`."""
        hint = 'name the directory that "hive-c0re edit" has printed'
        try:
            facts = json.loads((path / "edit.json").read_bytes())
            found = cls(path.absolute(), str(facts["agent"]), str(facts["base"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise Failure("bad_edit", f"{path} is no directory of an edit", hint=hint) from None
        if found.agent != agent:
            raise Failure("bad_edit", f"{path} has an edit of {found.agent}, not of {agent}", hint=hint)
        return found

    def read(self) -> Files:
        """Return the edited files. Raises Failure that names what cannot be sent."""
        return _files_of(read_files(self.files, self._deployed().contents))

    def changed(self) -> list[str]:
        """Return the paths of the files that were changed, added or removed."""
        before, after = self._deployed(), self.read()
        paths = sorted({*before.contents, *after.contents})
        return [path for path in paths if before.version(path) != after.version(path)]

    def take_over(self, base: str, files: Files) -> list[str]:
        """Go on from another deployed commit.

        What only the deployment has changed is taken over. Returns the paths that both have changed differently: these
        stay as they were edited.
        """
        before, mine = self._deployed(), self.read()
        both = []
        try:
            for path in sorted({*before.contents, *files.contents}):
                old, new, edited = before.version(path), files.version(path), mine.version(path)
                if old == new or edited == new:
                    continue
                if edited != old:
                    both.append(path)
                elif new[0] is None:
                    (self.files / path).unlink()
                else:
                    _write(self.files, Files({path: new[0]}, frozenset({path}) if new[1] else frozenset()))
            shutil.rmtree(self.deployed)
            _write(self.deployed, files)
            self.base = base
            self._write_facts()
        except OSError as error:
            raise _cannot_write(error) from None
        return both

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _deployed(self) -> Files:
        return _files_of(read_files(self.deployed, _names(self.deployed)))

    def _write_facts(self) -> None:
        (self.path / "edit.json").write_text(json.dumps({"agent": self.agent, "base": self.base}))


def _names(directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]


def _files_of(found: ConfigFiles) -> Files:
    contents = {path: base64.b64decode(text) for path, text in found.others.items()}
    return Files(contents, frozenset(found.executables))


def _write(directory: Path, files: Files) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    for path, data in files.contents.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        mode = stat.S_IMODE(file.stat().st_mode) & ~0o111
        file.chmod(mode | 0o100 if path in files.executables else mode)


def _leads_out(path: str) -> bool:
    return path.startswith("/") or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/"))


def _bad_answer() -> Failure:
    return Failure(
        "bad_answer",
        "the daemon sent files that are none of a configuration",
        hint="check that hive-c0re and the daemon have the same version",
    )


def _cannot_write(error: OSError) -> Failure:
    what = f"cannot write {error.filename}: {error.strerror}" if error.filename else f"cannot write: {error.strerror}"
    return Failure("cannot_write", what, hint="TMPDIR names the directory for temporary files")
