"""`trainyard results`: the measured figures of the recipes, kept as one record per system, and their tables."""
