"""What `tools` of agent.toml allows, taken apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class BadConfig(Exception):
    """What agent.toml asks for cannot be done by this agent CLI; the text says what to change."""


@dataclass(frozen=True)
class Allowed:
    """By tool: the patterns that its use has to fit, or none at all where every use is allowed."""

    patterns: Mapping[str, Sequence[str]]

    def everything(self, *names: str) -> bool:
        """Whether one of these tools may be used in every way."""
        return any(self.patterns.get(name) == [] for name in names)

    def some(self, *names: str) -> bool:
        """Whether one of these tools may be used at all."""
        return any(name in self.patterns for name in names)

    def refuse_patterns(self, program: str, *exempt: str) -> None:
        """Raises BadConfig if a tool that is not `exempt` has a pattern: no more may be allowed than was asked for."""
        for name, patterns in self.patterns.items():
            if patterns and name not in exempt:
                raise BadConfig(
                    f"{program} cannot limit the tool {name} to what fits `{patterns[0]}`: in `tools` of agent.toml, "
                    f"allow {name} as a whole, leave it out, or choose another backend"
                )


def allowed(tools: Iterable[str]) -> Allowed:
    """`Bash(git *)` allows Bash for what fits, `Bash` for everything; both together are everything."""
    found: dict[str, list[str]] = {}
    whole = set()
    for tool in tools:
        name, bracket, rest = tool.partition("(")
        name = name.strip()
        patterns = found.setdefault(name, [])
        pattern = rest.strip().removesuffix(")").strip()
        if not bracket or pattern in ("", "*"):
            whole.add(name)
        else:
            # `git:*` is an older way to write `git *`.
            patterns.append(f"{pattern[:-2]} *" if pattern.endswith(":*") else pattern)
    return Allowed({name: [] if name in whole else patterns for name, patterns in found.items()})
