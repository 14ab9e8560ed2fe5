"""Carries messages between agents: durable before "ok", leased, acknowledged, never silently dropped."""

from __future__ import annotations

from hive_core.messaging.broker import Broker
from hive_core.messaging.directory import Directory, Member
from hive_core.messaging.sending import Letter

__all__ = ["Broker", "Directory", "Letter", "Member"]
