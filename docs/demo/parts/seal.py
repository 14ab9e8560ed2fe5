"""A part of the demo: what a sealed agent cannot reach."""

from __future__ import annotations

import view
from daemon import Daemon


def play(daemon: Daemon) -> None:
    """Run commands in ada's sandbox that fail. Fails if one of them does not."""
    view.heading("The seal: commands in ada's sandbox, as its root user")
    for line in (
        ("bash", "-c", "echo > /dev/tcp/1.1.1.1/443"),
        ("ls", str(daemon.layout.agent("bob").state)),
        ("touch", "/repos/shop.git/mine"),
    ):
        view.log(daemon.refused("exec", "ada", "--", *line))
