"""Figures and the HTML report of a run. Only `of_run` knows the run folder."""
