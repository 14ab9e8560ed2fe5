"""What agents ask of the operator and of time: questions and reminders, kept in the database until they have ended."""

from __future__ import annotations

from hive_core.messaging.questions import Questions
from hive_core.messaging.reminders import Reminders
from hive_core.messaging.scheduler import Due

__all__ = ["Due", "Questions", "Reminders"]
