"""Connectivity of pairs of brain regions, predicted from the gene expression of both."""
