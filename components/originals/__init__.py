"""Originals: the files that data sets are made of, downloaded, unpacked and listed."""
