"""Names of what an agent can be given of the host: directories and devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from hive_core.errors.faults import in_words

BindName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"),
    in_words("it must be a name of 1 to 32 of a-z, 0-9 and -, with a letter first"),
]
"""Name of a directory of the host that the operator offers."""
DeviceName = Literal["gpu", "kvm", "fuse"]
"""Devices of the host that the operator can offer."""
