"""Cluster: the Ray cluster, the workers on it, and functions that run on all of them."""
