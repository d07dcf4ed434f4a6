"""Verification: where a registered version or a result comes from, its run in a copy, and the statement about both."""
