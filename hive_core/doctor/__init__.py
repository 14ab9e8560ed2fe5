"""Checks of this host: pure checks, and the probes that read the facts for them."""

from __future__ import annotations

from hive_core.doctor.examination import examine
from hive_core.doctor.findings import Finding, healthy
from hive_core.doctor.hive_checks import Unanswered

__all__ = ["Finding", "Unanswered", "examine", "healthy"]
