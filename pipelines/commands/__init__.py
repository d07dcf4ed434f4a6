"""Commands: the verbs of `trainyard`, one file each, and what several of them share."""
