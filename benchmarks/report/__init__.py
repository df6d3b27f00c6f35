"""Reports of the results: a table on the terminal, charts as PNG and SVG, and an HTML page."""
