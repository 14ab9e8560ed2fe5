"""Agents for tests of the nixos runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hive_core.layout import Layout
from hive_core.protocol import Kind, Limits
from hive_core.runtimes.base import AgentSpec


def layout_of(place: Path) -> Layout:
    return Layout(place / "state", place / "run")


def spec_of(
    place: Path,
    name: str = "ada",
    *,
    kind: Kind = "agent",
    closure: str = "/nix/store/aaa-system",
    deployment: int = 1,
    environment: Mapping[str, str] | None = None,
    sealed: bool = False,
    nix_daemon: bool = False,
    limits: Limits | None = None,
) -> AgentSpec:
    """An agent of a hive below `place`, its directories made."""
    layout = layout_of(place)
    paths = layout.agent(name)
    for directory in (paths.config, paths.state, paths.claude, paths.code, paths.run):
        directory.mkdir(parents=True, exist_ok=True)
    return AgentSpec(
        name,
        kind,
        paths,
        layout.agent_log(name),
        environment or {},
        applied=layout.applied if kind == "manager" else layout.applied_repository(name),
        closure=closure,
        deployment=deployment,
        limits=limits or Limits(),
        sealed=sealed,
        nix_daemon=nix_daemon,
        web_port=8123,
    )
