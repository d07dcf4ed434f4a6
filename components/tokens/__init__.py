"""Tokenizers: how text becomes numbers, with a vocabulary from the training split alone."""
