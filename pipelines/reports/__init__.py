"""Reports: the pages and pictures that show the results of the stages."""
