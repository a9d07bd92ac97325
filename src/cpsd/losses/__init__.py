"""Losses: pure functions of logits, and the objective that names its terms.

Shapes: B pictures in a batch, C labels, S strategies.
"""
