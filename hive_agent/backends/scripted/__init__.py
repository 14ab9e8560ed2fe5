"""The backend `scripted`, which follows rules and asks no model."""
