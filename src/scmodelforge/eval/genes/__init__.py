"""Vectors of genes, what they are good for, and which genes are near each other."""
