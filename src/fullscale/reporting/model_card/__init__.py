"""MODEL_CARD.md: what a model is, for people, from what its run keeps on disk."""
