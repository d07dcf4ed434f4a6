"""Searches that turn the outputs of a model into a sequence."""
