"""Scores of embeddings as the community computes them (scIB, Luecken et al. 2022, doi:10.1038/s41592-021-01336-8)."""
