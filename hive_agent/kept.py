"""What is remembered over restarts, each in a small file of its own in a place that the agent can write.

So a file that is not what it should be counts as missing, and no failure to write stops anything.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hive_agent import state_files

log = logging.getLogger(__name__)

_MOST_BYTES = 16 * 1024

M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M]) -> M | None:
    """What `save` wrote; None if there is nothing like that."""
    try:
        content = b"\n".join(state_files.read(path, _MOST_BYTES))
        return model.model_validate_json(content) if content else None
    except (OSError, ValidationError) as error:
        log.warning("%s cannot be read (%s), going on without it", path, type(error).__name__)
        return None


def save(path: Path, content: BaseModel) -> None:
    """Keep it in the place of what is there. If that fails, a restart forgets, and that is all."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_files.replace(path, [content.model_dump_json().encode()])
    except OSError as error:
        log.error("%s cannot be written: %s", path, error)
