"""Where settings become parts and parts meet: train, embed, evaluate."""
