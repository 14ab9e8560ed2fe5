"""Repositories of the operator: their registry, their mirrors, and the traffic with their upstreams.

A mirror is a bare repository that only the daemon writes. It holds `refs/upstream/heads/*` and `refs/tags/*` as
upstream has them, the registered branch below `refs/heads/`, which landings move, and `refs/landed/*`. No object is
ever removed from it, because agents' clones borrow them.
"""
