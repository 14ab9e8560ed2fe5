"""Messages, leases, questions to the operator, and reminders."""

from __future__ import annotations

from hive_core.messaging.broker import Broker
from hive_core.messaging.directory import Directory, Member
from hive_core.messaging.questions import Questions
from hive_core.messaging.reminders import Reminders
from hive_core.messaging.scheduler import Scheduler
from hive_core.messaging.sending import OutgoingMessage

__all__ = ["Broker", "Directory", "Member", "OutgoingMessage", "Questions", "Reminders", "Scheduler"]
