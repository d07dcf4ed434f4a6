"""Pipelines: the stages of the flagship and of the families' recipes, and the commands that run them."""
