"""Semantic resampling: weights that draw each cluster of similar actions equally often."""

from action100m.dataset.balance.resample import Balanced, balance

__all__ = ["Balanced", "balance"]
