"""Carries messages between agents: durable before "ok", leased, acknowledged, never silently dropped."""

from __future__ import annotations

from hive_core.broker.broker import Broker
from hive_core.broker.directory import Directory, Member
from hive_core.broker.sending import Letter

__all__ = ["Broker", "Directory", "Letter", "Member"]
