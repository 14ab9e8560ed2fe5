"""The command `cp`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from hive_core.cli.access.copy import Copied, copy_in, copy_out
from hive_core.cli.arguments import json_option, print_json
from hive_core.cli.client import Client
from hive_core.text import escaped_line, format_bytes

_IN_AGENT = re.compile(r"([a-z][a-z0-9-]*):(.*)", re.DOTALL)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@json_option
@click.pass_obj
def cp(socket: str | None, source: str, target: str, as_json: bool) -> int:
    """Copy files into an agent or out of it.

    One of SOURCE and TARGET is a path in an agent, as AGENT:/PATH; a path of this host that looks like one is written
    as ./PATH. Directories are copied as a whole, into TARGET if that is a directory. Here files are read and written as
    the user who types. Of what an agent sends, devices and links that lead out of the copy are left out, as are owners
    and setuid bits.

    \b
    Examples:
      hive-c0re cp ada:/code/web/report.html .
      hive-c0re cp ./data ada:/state
    """
    outward, inward = _IN_AGENT.fullmatch(source), _IN_AGENT.fullmatch(target)
    if (outward is None) == (inward is None):
        raise click.UsageError("One of SOURCE and TARGET must be in an agent, as AGENT:/PATH.")
    client = Client(socket)
    if outward is not None:
        copied = copy_out(client, outward[1], _absolute(outward[2]), Path(target))
    else:
        assert inward is not None
        path = _absolute(inward[2])
        copied = copy_in(client, inward[1], Path(source), path, into=path.endswith("/"))
    _show(copied, as_json=as_json)
    return 1 if copied.left_out_count else 0


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise click.UsageError(
            f"The path in an agent must be absolute: AGENT:/code/REPO/{path} for a file of a clone, or "
            f"AGENT:/state/{path}."
        )
    return path


def _show(copied: Copied, *, as_json: bool) -> None:
    if as_json:
        print_json({"files": copied.files, "bytes": copied.bytes, "left_out": list(copied.left_out)})
        return
    for line in copied.left_out:
        click.echo(f"not copied: {escaped_line(line)}", err=True)
    if copied.left_out_count > len(copied.left_out):
        click.echo(f"and {copied.left_out_count - len(copied.left_out)} more", err=True)
    files = "1 file" if copied.files == 1 else f"{copied.files} files"
    click.echo(f"copied {files}, {format_bytes(copied.bytes)}")
