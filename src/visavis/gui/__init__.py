"""The GUI agent: screenshots in, human-like actions out. Nothing of it exists yet."""

__all__: list[str] = []
