"""Originals: the files that a data set is made of, fetched, unpacked and listed."""
