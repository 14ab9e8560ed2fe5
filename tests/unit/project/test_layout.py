"""The layout of the project: sizes of folders, names of classes, places of tests."""

from __future__ import annotations
