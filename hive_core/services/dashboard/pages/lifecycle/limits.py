"""The limits of a running agent: what is configured, in force and used, and a form that changes what is in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.lifecycle.acting import acting_form, read_number
from hive_core.services.dashboard.visit import Visit
from hive_core.text import format_bytes

_SIZES = ("memory_max", "disk_max")
_NUMBERS = ("cpu_quota", "tasks_max", "io_weight")
_LABELS = {
    "memory_max": "Memory",
    "disk_max": "Disk",
    "cpu_quota": "Processor, % of a core",
    "tasks_max": "Processes, threads",
    "io_weight": "Share of the disk's time",
}


async def show_limits(visit: Visit) -> web.StreamResponse:
    """Show an agent's limits and what it uses."""
    found = await visit.hive.get(path_of("agents", visit.path["name"], "limits"))
    return visit.page("lifecycle/limits.html.j2", limits=found, rows=limit_rows(found))


async def change_limits(visit: Visit) -> web.StreamResponse:
    """Change the limits that are named, or go back to what is configured."""
    form = await acting_form(visit)
    path = path_of("agents", visit.path["name"], "limits")
    await visit.hive.post(path, limits_request(form))
    return visit.go_to(f"/agents/{visit.path['name']}/limits")


def limits_request(form: Mapping[str, str]) -> dict[str, object]:
    """Return the request of a form; fields that are empty stay as they are. Raises `bad_number`."""
    sizes: dict[str, object] = {key: form[key].strip().upper() for key in _SIZES if form.get(key, "").strip()}
    numbers = {key: number for key in _NUMBERS if (number := read_number(form, key, int)) is not None}
    return {**sizes, **numbers, "reset": form.get("reset") == "yes"}


def limit_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return for each limit its key, label, the configured one, that in force, and what is used."""
    usage, configured, in_force = found["usage"], found["configured"], found["in_force"]
    used = {
        "memory_max": _size(usage.get("memory_bytes")),
        "disk_max": _size(usage.get("disk_bytes")),
        "cpu_quota": "" if usage.get("cpu_seconds") is None else f"{usage['cpu_seconds']:.1f} s in all",
        "tasks_max": "" if usage.get("tasks") is None else str(usage["tasks"]),
    }
    return [
        (key, label, _text(configured.get(key)), _text(in_force.get(key)), used.get(key, ""))
        for key, label in _LABELS.items()
    ]


def _text(limit: object) -> str:
    return "none" if limit is None else str(limit)


def _size(size: int | None) -> str:
    return "" if size is None else format_bytes(size)
