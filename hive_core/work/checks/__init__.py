"""Checks of proposed work: the operator's commands, run in throwaway sandboxes on the files of a tree."""
