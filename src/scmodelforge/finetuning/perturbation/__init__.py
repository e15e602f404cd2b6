"""Parts of the task ``perturbation_prediction``."""
