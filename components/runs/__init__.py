"""Runs: the journal of a run and the readings of the machine that it runs on."""
