from pipelines.door import run

run()
