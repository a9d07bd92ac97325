"""Comparison: the method beside its controls, over seeds, at what each has cost."""
