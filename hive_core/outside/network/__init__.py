"""The daemon's side of egress: rules made while agents run, agents' requests for hosts, refusals, and traffic."""
