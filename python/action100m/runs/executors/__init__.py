"""Executors, which run stages. For now they run on this machine only."""
