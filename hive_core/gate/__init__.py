"""The gate: no configuration of an agent takes effect before it was proposed, built, approved, deployed and watched."""
