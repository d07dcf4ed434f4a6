"""Scores of predictions against targets, and their confidence intervals."""
