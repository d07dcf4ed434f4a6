"""Building blocks that at least two models or tasks share."""
