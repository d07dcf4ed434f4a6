"""Tasks: a kind of problem per file, with its loss, its predictions, its scores and its drawings."""
