"""The variables of an agent's environment that turns have; a session that a person opens has the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_EVERY_PROGRAM: Sequence[str] = (
    "PATH",
    "HOME",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_USE_ENV_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_*",
    "GIT_AUTHOR_*",
    "GIT_COMMITTER_*",
    "HIVE_AGENT_APPLIED",
    "HIVE_AGENT_CODE",
    "HIVE_AGENT_CONFIG",
    "HIVE_AGENT_DEPLOYED",
    "HIVE_AGENT_SECRETS",
    "HIVE_BIND_*",
    "HIVE_SERVICE_*",
    "HIVE_AGENT_STATE",
    # By these two the daemon finds processes that a killed harness has left, if the agent is not sandboxed.
    "HIVE_AGENT_RUN",
    "HIVE_PARENT_PID",
)
_FROM_AGENT_NIX = "HIVE_AGENT_ENVIRONMENT"
"""The variable with the patterns of `hyperhive.environment` of agent.nix, separated by spaces."""

BACKEND_VARIABLES: Mapping[str, Sequence[str]] = {
    "scripted": (),
    "claude": ("ANTHROPIC_*", "CLAUDE_CODE_*"),
    "opencode": (
        "ANTHROPIC_*",
        "OPENAI_*",
        "GEMINI_API_KEY",
        "GOOGLE_GENERATIVE_AI_API_KEY",
        "OPENROUTER_API_KEY",
        "OPENCODE_API_KEY",
    ),
    "codex": ("CODEX_API_KEY", "OPENAI_*"),
    "gemini": ("GEMINI_API_KEY", "GEMINI_MODEL", "GOOGLE_*"),
}
"""The variables that the agent CLI of each backend needs, its vendor's keys among them."""


def child_environment(variables: Mapping[str, str], needed: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """Select the variables that every agent CLI needs, this one needs (`needed`), or agent.toml (`extra`) or agent.nix
    names.

    A `*` at the end of a pattern stands for any suffix. Backends add their own variables to the result.
    """
    patterns = (*_EVERY_PROGRAM, *needed, *extra, *variables.get(_FROM_AGENT_NIX, "").split())
    names = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {name: value for name, value in variables.items() if name in names or name.startswith(prefixes)}
