"""Search: what a search tries next, its trials, and Ray Tune, which runs them."""
