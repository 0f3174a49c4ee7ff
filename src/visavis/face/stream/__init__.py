"""Faces in moving pictures: video in, people tracked, and who was seen when told as events."""

__all__: list[str] = []
