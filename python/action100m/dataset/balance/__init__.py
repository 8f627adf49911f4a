"""Semantic resampling: how often each segment is to be drawn for alike actions to come up alike."""

from action100m.dataset.balance.resample import CLUSTERS, Balanced, balance

__all__ = ["CLUSTERS", "Balanced", "balance"]
