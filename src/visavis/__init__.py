"""Machines that look: building blocks, a face-recognition system, a native GUI agent.

Import what you need from where it lives, e.g. ``from visavis.face import FaceSystem``; this module loads nothing.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
