"""Figures and the HTML report of a run. Only `of_run` reads the run folder."""
