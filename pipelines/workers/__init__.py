"""Workers: the functions that run on the workers of a stage, named by dotted path so that no driver imports torch."""
