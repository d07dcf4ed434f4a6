"""Matplotlib figures of data and results, and the HTML page that shows them."""
