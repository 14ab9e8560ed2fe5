"""`python -m hive_core` is `hive-c0re`."""

from __future__ import annotations

from hive_core.cli import PROGRAM, main

if __name__ == "__main__":
    main(prog_name=PROGRAM)
