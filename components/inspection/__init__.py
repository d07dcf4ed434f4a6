"""Recognise what lies in a user's folder, list what is odd about it, and propose a recipe."""
