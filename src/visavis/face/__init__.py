"""The face-recognition system: detection, alignment, features, matching, a gallery on disk.

``from visavis.face import FaceSystem`` is all that most programs need, or `FaceClient` where ``visavis serve`` has the
gallery; a stage is imported from where it lives, for example ``from visavis.face.align import align``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.face.client import FaceClient
    from visavis.face.system import FaceSystem

__all__ = ["FaceClient", "FaceSystem"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import visavis.face` stays cheap for the stages and the command line.
    if name == "FaceSystem":
        from visavis.face.system import FaceSystem

        return FaceSystem
    if name == "FaceClient":
        from visavis.face.client import FaceClient

        return FaceClient
    raise AttributeError(f"module 'visavis.face' has no attribute {name!r}")
