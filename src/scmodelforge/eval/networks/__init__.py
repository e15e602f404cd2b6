"""Known edges from transcription factors to genes, and how well scores of pairs find them."""
