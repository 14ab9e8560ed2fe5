"""The parts of the demo, in the order in which it shows them: work, gate, seal, network."""
