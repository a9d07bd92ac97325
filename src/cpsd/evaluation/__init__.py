"""Evaluation: metrics of scores, and predictions in the data's order.

Shapes: N pictures, C labels.
"""
