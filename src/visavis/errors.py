"""Every error visavis raises on purpose, and the one array check that raises most of them.

`expect` takes torch tensors and numpy arrays alike and imports neither, so that the command line starts
without them.
"""

from typing import Any, Literal

__all__ = [
    "AccessError",
    "BusyError",
    "EndpointError",
    "GalleryError",
    "InputError",
    "LandmarkError",
    "MissingExtraError",
    "ModelError",
    "NotFoundError",
    "PhotoError",
    "RankError",
    "ReplyError",
    "ScreenError",
    "ServerError",
    "TensorError",
    "TraceError",
    "TrainingError",
    "VideoError",
    "VisavisError",
    "expect",
]


class VisavisError(Exception):
    """Catch this to catch all of ours."""


class InputError(VisavisError, ValueError):
    """A value outside what a function or command accepts."""


class TensorError(VisavisError, ValueError):
    """A tensor has the wrong shape or dtype."""


class LandmarkError(VisavisError, ValueError):
    """Facial landmarks that determine no face pose."""


class PhotoError(VisavisError, ValueError):
    """A file that cannot be read as a photo; the message is fit to be shown beside the file's name."""


class VideoError(VisavisError, ValueError):
    """A video, camera or stream that cannot be opened or read."""


class ModelError(VisavisError, RuntimeError):
    """A model is unknown, cannot be fetched, fails its hash, or its licence has not been accepted."""


class GalleryError(VisavisError, RuntimeError):
    """A gallery cannot be opened, is of another model, or does not hold what was asked for."""


class NotFoundError(VisavisError, LookupError):
    """What was asked for by its number is not there."""


class BusyError(VisavisError, RuntimeError):
    """It cannot be done just now."""


class AccessError(VisavisError, PermissionError):
    """A face server wants a token, or one that may do more."""


class ServerError(VisavisError, RuntimeError):
    """A face server cannot be reached, failed, or is none."""


class RankError(VisavisError, RuntimeError):
    """Another process of a distributed run is gone, stuck, or refused its batch."""


class TrainingError(VisavisError, RuntimeError):
    """Training cannot go on: its loss is no number any more."""


class ReplyError(VisavisError, ValueError):
    """A model's reply that its dialect does not allow; the message is fit to be told back to the model."""

    def __init__(self, message: str, reply: str = "", *, tokens: int = 0) -> None:
        super().__init__(message)
        self.reply, self.tokens = reply, tokens  # read and written for it; 0: the model does not count


class EndpointError(VisavisError, RuntimeError):
    """A model that is served elsewhere gave no usable answer.

    `retry`: asking again may help; `wait_s`: seconds that it asks to be left alone for before.
    """

    def __init__(self, message: str, *, retry: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry, self.wait_s = retry, wait_s


class ScreenError(VisavisError, RuntimeError):
    """A screen cannot be opened, is gone, or does not answer in time; `acted`: an action may have been performed.

    Only an action that was certainly not performed is tried again: a second click may buy a second time.
    """

    def __init__(self, message: str, *, acted: bool = True) -> None:
        super().__init__(message)
        self.acted = acted


class TraceError(VisavisError, RuntimeError):
    """A trace that cannot be written, or a folder that is no readable trace."""


class MissingExtraError(VisavisError, ImportError):
    """A library of an optional extra is not installed; the message names the `pip install` that helps."""


def expect(name: str, array: Any, kind: Literal["float", "int64", "uint8"], *shape: int | None) -> None:
    """Refuse an array or tensor of another kind or shape; None stands for any length.

    Raises:
        TensorError: `array` is of another dtype, rank or length.
    """
    dtype = str(array.dtype).removeprefix("torch.")
    kind_fits = dtype in ("float16", "bfloat16", "float32", "float64") if kind == "float" else dtype == kind
    shape_fits = len(array.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not (kind_fits and shape_fits):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise TensorError(f"{name}: expected {kind} [{wanted}], got {dtype} {list(array.shape)}")
