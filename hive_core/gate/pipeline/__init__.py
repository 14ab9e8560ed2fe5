"""The steps of a proposal: submit, build, decide, deploy; recovery, maintenance and updates."""
