"""The relay: a process without privileges that holds the vendors' keys and passes agents' calls of models on."""
