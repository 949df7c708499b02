"""One HTML file that shows a run: curves, errors, structures, tables; nothing in it needs a network."""
