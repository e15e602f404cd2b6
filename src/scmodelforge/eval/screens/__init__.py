"""Many perturbations of many cells: what is done, its effects by either method, and what is said of them."""
