"""Experiments: scorecards from moments, published, recomputed and explained."""
