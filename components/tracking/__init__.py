"""Tracking: runs sent to MLflow in the background, and the models that are registered and served there."""
