"""Datasets in FiftyOne's format: write, read, show and share; only showing needs FiftyOne."""
