"""Promotion: retraining, and the decision which model is served."""
