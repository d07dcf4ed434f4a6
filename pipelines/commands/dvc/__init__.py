"""DVC: `dvc repro` and `dvc status`, run as child processes."""
