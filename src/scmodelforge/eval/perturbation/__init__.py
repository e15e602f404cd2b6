"""Scores of predicted perturbations: what is read, metrics, baselines, splits."""
