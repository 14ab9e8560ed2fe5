"""Vendors of models as an agent's configuration and harness know them: APIs and their features, providers by name.

Harnesses load this module, and not those with the settings of providers: every model of pydantic takes memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import StringConstraints

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Backend

VendorApi = Literal["anthropic", "openai", "google"]
"""The API that a provider speaks: Messages; Responses and Chat Completions; generateContent."""
ModelFeature = Literal["web", "mcp", "code", "urls", "files", "images", "stored", "priority"]
"""Abilities of vendors' APIs that reach beyond a call, or cost more; refused unless they are named.

`web` are searches and fetches by the vendor, `mcp` are remote MCP servers, `code` is code that the vendor runs, `urls`
are sources that the vendor fetches, `files` are uploaded files and indexes, `images` are generated ones, `stored` are
conversations that the vendor keeps, `priority` is service at a higher price.
"""
ProviderName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"),
    in_words("it must be a name of 1 to 32 of a-z, 0-9 and -, with a letter first and no - last"),
]
VENDOR_KEYS = frozenset(
    {
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        *("OPENAI_API_KEY", "CODEX_API_KEY", "OPENROUTER_API_KEY", "OPENCODE_API_KEY"),
        *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
    }
)
"""Variables with keys of vendors, which no agent with a provider gets."""
BACKEND_APIS: Mapping[Backend, frozenset[VendorApi]] = {
    "scripted": frozenset({"anthropic", "openai", "google"}),  # It calls no model.
    "claude": frozenset({"anthropic"}),
    "opencode": frozenset({"anthropic", "openai", "google"}),
    "codex": frozenset({"openai"}),
    "gemini": frozenset({"google"}),
}
"""The APIs that the agent CLI of each backend speaks."""
CLAUDE_SHORT_NAMES = ("default", "haiku", "opus", "opusplan", "sonnet", "sonnet[1m]")
"""Short names of models that Claude Code takes (its documentation, "Model configuration"); others are full names."""


def model_at_vendor(backend: Backend, api: VendorApi, model: str) -> str:
    """Return the name under which the vendor knows a model: opencode names it with its provider before a slash."""
    return model.removeprefix(f"{api}/") if backend == "opencode" else model
