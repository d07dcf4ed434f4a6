"""Search: which values a search tries, the trials that score them, and Ray Tune, which runs the trials."""
