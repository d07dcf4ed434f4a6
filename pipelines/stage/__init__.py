"""Stage: what surrounds the work of every stage, from its run folder to its outputs."""
