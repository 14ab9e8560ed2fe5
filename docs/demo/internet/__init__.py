"""A small internet of the demo's own, in network namespaces."""
