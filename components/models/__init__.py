"""Networks, one architecture per file, that a recipe names by dotted path."""
