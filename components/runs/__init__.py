"""Runs: the journal of a run, and the use of the machine on which it runs."""
