"""Commands: the verbs of `trainyard`, one file each."""
