"""The tools that `tools` of agent.toml allows, parsed. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class BadConfig(Exception):
    """This agent CLI cannot apply a setting of agent.toml; the text says what to change."""


@dataclass(frozen=True)
class Allowed:
    """The allowed patterns by tool; a tool without patterns may be used without restriction."""

    patterns: Mapping[str, Sequence[str]]

    def allows_any(self, *names: str) -> bool:
        """Return whether one of these tools may be used, with or without patterns."""
        return any(name in self.patterns for name in names)

    def check_patterns(self, program: str, *exempt: str) -> None:
        """Check that only `exempt` tools have patterns, for a CLI that cannot enforce others. Raises BadConfig."""
        for name, patterns in self.patterns.items():
            if patterns and name not in exempt:
                raise BadConfig(
                    f"{program} cannot limit the tool {name} to the pattern `{patterns[0]}`: in `tools` of agent.toml, "
                    f"allow {name} without a pattern, remove it, or choose another backend"
                )


def parse_tools(tools: Iterable[str]) -> Allowed:
    """Parse `tools`: `Bash(git *)` allows matching uses of Bash, `Bash` allows all, also beside a pattern."""
    found: dict[str, list[str]] = {}
    unrestricted = set()
    for tool in tools:
        name, bracket, rest = tool.partition("(")
        name = name.strip()
        patterns = found.setdefault(name, [])
        pattern = rest.strip().removesuffix(")").strip()
        if not bracket or pattern in ("", "*"):
            unrestricted.add(name)
        else:
            # `git:*` is an older way to write `git *`.
            patterns.append(f"{pattern[:-2]} *" if pattern.endswith(":*") else pattern)
    return Allowed({name: [] if name in unrestricted else patterns for name, patterns in found.items()})
