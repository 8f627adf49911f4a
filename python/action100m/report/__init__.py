"""Figures and the HTML report of a run. Knows nothing of the run folder: callers hand over `data`."""
