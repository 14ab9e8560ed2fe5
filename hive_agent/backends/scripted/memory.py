"""What the scripted backend remembers between turns and restarts, in one small file."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from hive_agent import state_files

log = logging.getLogger(__name__)

_KEPT_RELAYS = 1_000


class Remembered(BaseModel):
    """A message that can be answered later."""

    model_config = ConfigDict(frozen=True)

    id: int
    sender: str


class _Content(BaseModel):
    labels: dict[str, Remembered] = {}
    relays: dict[int, Remembered] = {}
    """By the id of the message that was sent on: who had asked for it. Oldest first."""


class ScriptMemory:
    """Labels of remembered messages, and open relays. Every change is on disk before the method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._load()

    def label(self, label: str) -> Remembered | None:
        return self._content.labels.get(label)

    def set_label(self, label: str, message: Remembered) -> None:
        if self._content.labels.get(label) != message:
            self._content.labels[label] = message
            self._save()

    def asker(self, sent_id: int) -> Remembered | None:
        """Who asked for the message `sent_id` to be sent."""
        return self._content.relays.get(sent_id)

    def set_asker(self, sent_id: int, asker: Remembered) -> None:
        relays = self._content.relays
        if relays.get(sent_id) == asker:
            return
        relays[sent_id] = asker
        while len(relays) > _KEPT_RELAYS:
            del relays[next(iter(relays))]
        self._save()

    def _load(self) -> _Content:
        try:
            return _Content.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Content()
        except (OSError, ValidationError) as error:
            # The file is the agent's own and can be rebuilt by talking: not a reason to refuse every message.
            log.warning("%s cannot be read (%s), starting without memory", self._path, type(error).__name__)
            return _Content()

    def _save(self) -> None:
        state_files.replace(self._path, [self._content.model_dump_json().encode()])
