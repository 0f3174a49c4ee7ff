"""The paths of the API, a file a group."""

__all__: list[str] = []
