"""Storage: prepared data as Arrow files, the order in which they are read, and what is computed from them."""
