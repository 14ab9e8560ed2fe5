"""What agents ask of the operator and of time: questions and reminders, kept in the database until they have ended."""

from __future__ import annotations

from hive_core.asking.due import Due
from hive_core.asking.questions import Questions
from hive_core.asking.reminders import Reminders

__all__ = ["Due", "Questions", "Reminders"]
