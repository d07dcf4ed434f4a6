"""Tracking: runs sent to MLflow in the background, and the models that it registers and serves."""
