"""Diffs for browsers: their lines, the rows of a table that show them, and choices of the reader."""
