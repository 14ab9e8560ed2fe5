"""Checks, as both runtimes share them: of the files of a build, and of proposed work by commands of the operator."""
