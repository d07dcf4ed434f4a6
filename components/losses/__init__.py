"""Loss terms that torch does not provide."""
