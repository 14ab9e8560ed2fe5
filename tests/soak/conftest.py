"""Fixtures of the soak."""

from __future__ import annotations

from tests.integration.conftest import hive_home, place

__all__ = ["hive_home", "place"]
