"""Figures and the HTML report of a run, made from what `data` names: no run folder in sight."""
