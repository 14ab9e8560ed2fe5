"""A click group that imports a command only when it runs, so that `--help` loads nothing but click.

It runs the program with standard streams that may be closed, full or broken.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

import click

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class Lazy(NamedTuple):
    """Location of a command (`module:attribute`) and its line in `--help`."""

    target: str
    short_help: str


class SuggestingGroup(click.Group):
    """A group that says which of its commands an unknown one was probably meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            from hive_core.errors.faults import did_you_mean  # noqa: PLC0415 - loaded only where it is needed

            near = did_you_mean(name, self.known_names(ctx)).removeprefix(",")
            ctx.fail(f"No such command {name!r}.{near[:1]}{near[1:2].upper()}{near[2:]}")
        return super().resolve_command(ctx, args)

    def known_names(self, ctx: click.Context) -> list[str]:
        """Return the names that may have been meant."""
        return self.list_commands(ctx)


class LazyGroup(SuggestingGroup):
    """A group that knows only names and short helps of its commands; without a command it runs `default`, if set.

    `aliases` are further names of commands, and `sections` the order of the commands in the help.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Lazy],
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.default = default
        self.aliases = aliases or {}
        self.sections = sections or {"Commands": list(lazy)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def known_names(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *self.aliases]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(self.aliases.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(self._shown(name), self.lazy[name].short_help) for name in names])

    def _shown(self, name: str) -> str:
        return ", ".join([name, *(alias for alias, meant in self.aliases.items() if meant == name)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # During shell completion an empty line asks for the names of the commands, not for the default command.
        without_command = args[0].startswith("-") if args else not ctx.resilient_parsing
        if self.default is not None and without_command and not set(args) & set(self.get_help_option_names(ctx)):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Run the program and exit with the command's code; Ctrl-C exits without a traceback.

        An output that cannot be written ends the command with code 1. Whether the messages on stderr can be written
        makes no difference.
        """
        prepare_streams()
        try:
            result = super().main(args, prog_name, **{**kwargs, "standalone_mode": False})
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            _discard_output()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _discard_output()
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The reader of the output closed the pipe (`| head`), so the rest of the output is discarded.
            _discard_output()
            sys.exit(1)
        except OSError as error:
            if error.errno not in _OUTPUT_ERRORS or error.filename is not None:
                raise
            click.echo(f"{prog_name or self.name}: cannot write the output: {error.strerror}", err=True)
            _discard_output()
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)


_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class _Unfailing(io.FileIO):
    """A file whose writes never fail: what cannot be written is discarded."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


def prepare_streams() -> None:
    """Make the standard streams usable, also if they are closed.

    A closed descriptor would be given to the next file or socket that is opened, and get what was meant for a stream.
    Messages on stderr are discarded if they cannot be written, because they must not end the daemon or a command.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free descriptor is used, and those before it are open. Writes to a closed stdout fail (EBADF).
            os.open(os.devnull, flags)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        raw = _Unfailing(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True, write_through=True)
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show is written as an escape instead of ending the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _discard_output() -> None:
    """Discard what is not written to stdout yet: the interpreter would fail to write it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
