"""How well an agent does: tasks played on real pages, and points found on real screenshots."""

__all__: list[str] = []
