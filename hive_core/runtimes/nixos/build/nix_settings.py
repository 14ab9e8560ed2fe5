"""The settings of Nix on this host, from its JSON, because the form of its text for people changes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.store import FEATURES
from hive_core.runtimes.nixos.commands import run

SHOW: tuple[tuple[str, ...], ...] = (("config", "show", "--json"), ("show-config", "--json"))
"""The command since Nix 2.20 and Lix 2.90, and the older one, which later versions know with a warning."""

_BYTES = 4 * 1024 * 1024
"""The answer contains the documentation of each setting, too."""


async def read_nix_settings(nix: str = "nix", variables: Mapping[str, str] | None = None) -> Mapping[str, object]:
    """Ask Nix for its settings; returns their values by name. `variables` replace the environment of Nix.

    Raises HiveError `nix_settings_unknown` if the form of the answer is not known, and the errors of `run`.
    """
    try:
        answer = await run([nix, *FEATURES, *SHOW[0]], limit_bytes=_BYTES, environment=variables)
    except HiveError as error:
        if error.code != "command_failed":
            raise
        answer = await run([nix, *FEATURES, *SHOW[1]], limit_bytes=_BYTES, environment=variables)
    return parse_nix_settings(answer)


def parse_nix_settings(answer: str) -> Mapping[str, object]:
    """Take the values from the JSON of `nix config show`. Raises HiveError `nix_settings_unknown`. Pure."""
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not any(isinstance(one, dict) and "value" in one for one in found.values()):
        raise HiveError(
            "nix_settings_unknown",
            "nix config show --json answers in a form that is not known",
            hint="see what it prints; this version of Nix is newer than what was tested",
            status=500,
        )
    return {name: one["value"] for name, one in found.items() if isinstance(one, dict) and "value" in one}
