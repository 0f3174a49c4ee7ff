"""Training a face recogniser: from photos of known people to a model that a pack can name."""
