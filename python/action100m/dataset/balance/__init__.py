"""Semantic resampling: how often each segment is to be drawn for alike actions to come up alike."""

from action100m.dataset.balance.resample import Balanced, balance

__all__ = ["Balanced", "balance"]
