"""Data sets, one per file, which recipes name by their dotted path."""
