"""Pages about the whole hive: what it spends, reaches, says, logs and records."""

from hive_core.services.dashboard.pages.hive import usage

PAGES = [*usage.PAGES]
