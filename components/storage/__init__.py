"""Storage: prepared data as Arrow files, the order in which they are read, and statistics computed from them."""
