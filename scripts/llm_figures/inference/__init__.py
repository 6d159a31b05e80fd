"""Passes of a model: batches, the shared prefix, prompts, generation, fine-tuning."""
