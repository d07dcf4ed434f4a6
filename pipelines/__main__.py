from pipelines.commands.cli import run

run()
