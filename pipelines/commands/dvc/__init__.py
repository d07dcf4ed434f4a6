"""Run `dvc repro` and `dvc status` as child processes."""
