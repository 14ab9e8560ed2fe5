"""`hive-c0re completion`: teach the shell to complete commands, options and names of agents."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hive_core.cli import PROGRAM, main


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for shell completion.

    \b
    bash:  eval "$(hive-c0re completion bash)"     in ~/.bashrc
    zsh:   eval "$(hive-c0re completion zsh)"      in ~/.zshrc
    fish:  hive-c0re completion fish | source      in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, PROGRAM, "_HIVE_C0RE_COMPLETE").source())
