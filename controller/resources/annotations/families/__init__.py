"""Families of annotations: one module for what belongs together. `annotations/table.py` has all of them."""
