"""Layers and tensor operations that several models or tasks can share."""
