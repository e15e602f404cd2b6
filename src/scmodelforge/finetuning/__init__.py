"""Fine-tuning: a trained model becomes another one that does a task. Training it is what training any model is."""
