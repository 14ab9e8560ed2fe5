"""Whether the real Claude Code is there to be tested with: the wheel of the extra `claude` carries it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hive_agent.backends.claude_command import NoProgram, find_program


def _is_missing() -> bool:
    try:
        # Not by PATH: one that the user installed is another version than the tests are made for.
        find_program({"PATH": str(Path(sys.executable).parent)})
    except NoProgram:
        return True
    return False


needs_claude = pytest.mark.skipif(_is_missing(), reason="Claude Code is not installed (extra `claude`)")
