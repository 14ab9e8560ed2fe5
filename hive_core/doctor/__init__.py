"""What is missing or wrong on this host, and what to do about it. Judging is pure; looking is in `looking` modules."""

from __future__ import annotations

from hive_core.doctor.examining import examine
from hive_core.doctor.findings import Finding, healthy
from hive_core.doctor.hive import Unanswered

__all__ = ["Finding", "Unanswered", "examine", "healthy"]
