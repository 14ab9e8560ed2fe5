"""Files, locks and room on the disk."""
