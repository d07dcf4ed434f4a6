"""Components: the building blocks of an experiment, from data to tracking, each room with one purpose."""
