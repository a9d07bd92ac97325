"""Explanations: where predictors look for a label, shown, compared and checked against the truth.

Maps are (P, h, w) for P pairs of picture and label, not negative; their scale is each predictor's
own, so that places of one map compare and values of two maps do not.
"""
