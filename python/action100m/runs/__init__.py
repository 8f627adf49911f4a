"""Runs: the run folder, what is in it, and how it is made and resumed."""
