"""Predictors: images (B, 3, H, W) in [0, 1] to logits (B, C) over a fixed, ordered label set."""
