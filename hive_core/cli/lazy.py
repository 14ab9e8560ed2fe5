"""A click group whose commands are imported when they run, so that `--help` costs no more than click itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class Lazy(NamedTuple):
    """Where a command is (`module:attribute`) and the one line that `--help` shows for it."""

    target: str
    short_help: str


class LazyGroup(click.Group):
    """A group that knows its commands by name and short help only. Without one, `default` is run, if there is one."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], default: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.default = default

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short_help) for name, entry in self.lazy.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # No words at all while the shell completes: then it is the names of the commands that are wanted.
        left_out = args[0].startswith("-") if args else not ctx.resilient_parsing
        if self.default is not None and left_out and not set(args) & set(self.get_help_option_names(ctx)):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Run as the whole program: exits with the command's code, and never with a traceback on Ctrl-C."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a character gets its escape, and the command still works.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            result = super().main(args, prog_name, **{**kwargs, "standalone_mode": False})
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output went away (`| head`): nothing to tell anyone, and nothing left to flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        sys.exit(result if isinstance(result, int) else 0)
