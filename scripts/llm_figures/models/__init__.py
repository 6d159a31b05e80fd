"""Language models: where they come from, how they are built, what is known without loading."""
