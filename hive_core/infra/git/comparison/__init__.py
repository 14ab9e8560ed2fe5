"""Comparisons of trees: with directories on disk, and as diffs in which every changed file is named."""
