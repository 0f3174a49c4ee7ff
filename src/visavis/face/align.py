"""Face alignment: turn, scale and shift a photo until the five landmarks meet an embedder's template.

Points are (x, y) in pixels and pixel centres are integers: the top-left pixel is (0, 0).
"""

import math

import numpy as np
from numpy.typing import NDArray

from visavis.errors import LandmarkError, expect
from visavis.face.records import AlignedFace

__all__ = ["TEMPLATES", "align", "fit_similarity"]

Points = NDArray[np.float32] | NDArray[np.float64]

_ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

# Where the landmarks belong in the crop, [5, 2] x, y in pixels; the number is the crop's size.
TEMPLATES: dict[str, NDArray[np.float64]] = {
    "arcface-112": _ARCFACE,
    # The same in a frame of 96 x 112 px, stretched to a square.
    "retail-0095-128": (_ARCFACE - [8, 0]) * [128 / 96, 128 / 112],
    # Where CenterFace's points fall in dlib's own chips: median of 745 frontal photos, made symmetric; spread 1.9 px.
    "dlib-150": np.array([[46.2, 48.1], [102.8, 48.1], [74.5, 75.9], [50.9, 101.0], [98.1, 101.0]]),
}


def fit_similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """Least-squares turn, scale and shift, no reflection: float [K, 2] onto [K, 2].

    As complex numbers centred on their means the fit is one division, ``<p, q> / <p, p>``.

    Returns:
        [2, 3] matrix M: ``target ~ source @ M[:, :2].T + M[:, 2]``.

    Raises:
        TensorError: the two sets differ in shape, or are not float.
        LandmarkError: no pose fits: points on one spot, not finite, or uncorrelated with the target.

    Source: Umeyama, PAMI 13(4), 1991, here in the plane.
    """
    expect("source", source, "float", None, 2)
    expect("target", target, "float", len(source), 2)
    with np.errstate(all="ignore"):  # what cannot be computed is refused below
        p, q = (points.astype(np.float64) @ [1, 1j] for points in (source, target))
        centred = p - p.mean()
        turn = np.vdot(centred, q - q.mean()) / np.vdot(centred, centred).real  # scale * exp(i * angle)
    if not 1e-6 < abs(turn) < 1e6:  # NaN fails too
        raise LandmarkError(f"source: expected points that fix a pose, got a scale of {abs(turn):.3g}")
    shift = q.mean() - turn * p.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: NDArray[np.uint8], landmarks: Points, template: Points, *, width: int, height: int) -> AlignedFace:
    """Cut an upright face of `width` x `height` px out of uint8 [H, W, 3] RGB; errors as `fit_similarity`.

    A face larger than the crop is first shrunk by a triangle filter as wide as the step, so that no detail too fine
    for the crop turns into a false pattern; bilinear sampling does the rest.

    Args:
        image: the photo.
        landmarks: [5, 2] in pixels of `image`.
        template: [5, 2], where they belong in the crop.
        width: of the crop, px.
        height: of the crop, px.
    """
    from PIL import Image

    expect("image", image, "uint8", None, None, 3)
    matrix = fit_similarity(landmarks, template)
    residual = np.sqrt(np.square(landmarks @ matrix[:, :2].T + matrix[:, 2] - template).sum(1).mean())
    inverse = np.linalg.inv(matrix[:, :2])
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    footprint = (corners - matrix[:, 2]) @ inverse.T
    crop_per_photo = math.hypot(matrix[0, 0], matrix[1, 0])
    margin = 2 * max(1.0, 1 / crop_per_photo)  # what the two filters below look at beyond the outermost centres
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(footprint.min(0) - margin), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(footprint.max(0) + margin) + 1, low + 1, limit).astype(int)
    patch = Image.fromarray(np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]))
    full = np.array(patch.size)
    if crop_per_photo < 1.0:
        reduced = np.maximum(1, np.ceil(full * crop_per_photo).astype(int))
        patch = patch.resize((int(reduced[0]), int(reduced[1])), Image.Resampling.BILINEAR)
    step = np.array(patch.size) / full  # patch pixels per photo pixel
    # Pillow wants crop pixel corners to patch pixel corners; ours are centres.
    to_patch = step[:, None] * inverse
    offset = step * (0.5 - low - inverse @ (matrix[:, 2] + 0.5))
    coefficients = (*to_patch[0], offset[0], *to_patch[1], offset[1])
    crop = patch.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return AlignedFace(np.asarray(crop), matrix, float(residual))
