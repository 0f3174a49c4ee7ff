"""Training a face recogniser: from photos of known people to a model that a pack can name."""

__all__: list[str] = []
