"""Training: the engine, the contract that a task fulfils, and what a run saves."""
