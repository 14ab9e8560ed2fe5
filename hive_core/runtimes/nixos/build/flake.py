"""The text of an agent's `flake.nix`: hyperhive's flake, and one commit of the agent's applied repository."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hive_core.flakes.quoting import git_reference, value
from hive_core.protocol import Kind

if TYPE_CHECKING:
    from jinja2 import Template

ATTRIBUTE = "nixosConfigurations.container.config.system.build.toplevel"
"""What of the flake is built."""


@dataclass(frozen=True)
class AgentFlake:
    """What an agent's system is made of. `hyperhive` is a flake reference, `system` Nix's name of the platform
    ("x86_64-linux"); `ref` and `commit` are the applied repository's.
    """

    hyperhive: str
    system: str
    name: str
    kind: Kind
    repository: Path
    ref: str
    commit: str

    @property
    def agent(self) -> str:
        """The flake reference of the agent's files: a sha, so that nothing else can ever be built from it."""
        return git_reference(self.repository, self.ref, self.commit)


def render(flake: AgentFlake) -> str:
    """The text of `flake.nix`. Whatever the values are, each stays one literal in it. Raises ValueError for what Nix
    cannot hold.
    """
    return _template().render(
        description=f"{flake.name} of this hive, at {flake.commit[:12]}",
        hyperhive=flake.hyperhive,
        agent=flake.agent,
        system=flake.system,
        name=flake.name,
        kind=flake.kind,
    )


@cache
def _template() -> Template:
    # Imported here: only hives on NixOS need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    # Nix is not HTML; `finalize` quotes every value, so that the template cannot forget to.
    environment = Environment(
        loader=PackageLoader("hive_core.runtimes.nixos.build", ""),
        finalize=value,
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    return environment.get_template("flake.nix.j2")
