"""Pretrained sets and their cards, and weights that were trained elsewhere."""
