"""Building blocks, one module a family; torch only."""

__all__: list[str] = []
