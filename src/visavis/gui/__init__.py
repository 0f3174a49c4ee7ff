"""The GUI agent: screenshots in, human-like actions out."""

__all__: list[str] = []
