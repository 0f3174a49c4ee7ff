"""A pack of two tiny networks, and photos for it: every stage runs for real, in worker processes too, and at once.

A "face" is a bright square of 32 px on a dark ground, laid on a grid of 32 px; its colour tells who it is. The detector
averages the cells of that grid, the embedder turns the mean colour into 128 Fourier features: cosines near 1 for one
colour and near 0 for two. To the judge of liveness red faces are live, all others painted.
"""

import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visavis.face.align import TEMPLATES
from visavis.face.quality import MEASURES

CELL_PX = 32
LEVELS = (0, 128, 255)
COLOURS = [(r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS if max(r, g, b) == 255]  # 19 people

CALIBRATION = {
    "measured_on": "squares of nineteen colours",
    "similarity": [-1.0, 0.2, 0.5, 0.9],
    "log10_false_match_rate": [0.0, -1.0, -4.0, -6.0],
    "slope": 20.0,
    "intercept": -10.0,
    "cluster_similarity": 0.6,
    "pairs": {"low": -0.4, "high": 1.0, "different": [0.3, 0.5, 0.19, 0.01, 0.0], "same": [0.0, 0.0, 0.05, 0.25, 0.7]},
    "quality": {
        "measures": list(MEASURES),
        **{name: [value] * len(MEASURES) for name, value in [("mean", 0), ("deviation", 1), ("curvature", 0)]},
        "weights": [0, 0, 0, 0, 0, 0, 0, 0.2, 0],  # only the detector's score tells: bright faces are good ones
        "bias": 0.0,
    },
}


def write_pack(folder: Path) -> Path:
    """The TOML of the pack, with its networks and its calibration beside it."""
    tables = []
    for role, kind, graph, rest in (
        ("detector", "yunet", _detector(), ""),
        ("embedder", "embedder", _embedder(), 'width = 112\nheight = 112\ntemplate = "arcface-112"\ndim = 128\n'),
        ("liveness", "minifasnet", _judge(), "width = 16\nheight = 16\ncrop = 1.0\nthreshold = 0.5\n"),
    ):
        (folder / f"{role}.onnx").write_bytes(graph)
        tables.append(
            f'[{role}]\nname = "square-{role}"\nkind = "{kind}"\ncolour = "RGB"\nlicence = "CC0-1.0"\n{rest}'
            f'files = [{{ name = "{role}.onnx", size = {len(graph)}, sha256 = "{hashlib.sha256(graph).hexdigest()}" }}]'
        )
    (folder / "squares.json").write_text(json.dumps(CALIBRATION))
    path = folder / "squares.toml"
    path.write_text("\n\n".join(['calibration = "squares.json"', *tables]))
    return path


def photo(path: Path, *people: int, seed: int | None = None, columns: int = 6, **options: object) -> Path:
    """Write a photo of people, numbers into COLOURS, see `pixels`; its seed is of the file's name unless given.

    The format is the suffix's, else PNG.
    """
    options = {"format": "PNG" if path.suffix not in Image.registered_extensions() else None} | options
    seed = zlib.crc32(os.fsencode(path.name)) if seed is None else seed
    Image.fromarray(pixels(*people, seed=seed, columns=columns)).save(path, **options)
    return path


def pixels(*people: int, seed: int = 0, columns: int = 6, brightness: float = 1.0) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]; the seed varies the colours a little, and so the content.

    Faces fill every second cell of a photo `columns` cells wide, row by row.
    """
    random = np.random.default_rng(seed)
    a_row = columns // 2
    rows = max(columns, 2 * -(-len(people) // a_row))
    cells = np.empty((rows, columns, 3))
    cells[:] = random.integers(0, 40, 3)
    for place, person in enumerate(people):
        colour = np.array(COLOURS[person]) * brightness + random.integers(-6, 7, 3)
        cells[2 * (place // a_row), 2 * (place % a_row)] = np.clip(colour, 0, 255)
    return cells.astype(np.uint8).repeat(CELL_PX, 0).repeat(CELL_PX, 1)


def _detector() -> bytes:
    """Outputs as YuNet's; only stride 32 ever sees a face, the other two say no once."""
    points = (TEMPLATES["arcface-112"] + 0.5) / 112  # so that the crop is the cell
    zeros = ", ".join(["0."] * 9)
    heads = "\n".join(
        f"cls_{stride} = Mul(first, none)\nobj_{stride} = Mul(first, none)\n"
        f"bbox_{stride} = Mul(first, four)\nkps_{stride} = Mul(first, ten)"
        for stride in (8, 16)
    )
    outputs = ", ".join(
        f"float[N,P,{size}] {head}_{stride}"
        for stride in (8, 16, 32)
        for head, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    )
    return _model(f"""
        detector (float[N,3,H,W] image) => ({outputs})
        <float[1,1,1] none = {{0.}}, float[1,1,4] four = {{0., 0., 0., 0.}}, float[1,1,10] ten = {{0., {zeros}}},
        float[1,1,4] box = {{0.5, 0.5, 0., 0.}}, float[1,1,10] points = {{{_numbers(points)}}},
        int64[3] rows = {{0, -1, 1}}, int64[1] start = {{0}}, int64[1] one = {{1}}, int64[1] axis = {{1}},
        float low = {{80.}}, float gain = {{0.01}}, float zero = {{0.}}, float most = {{1.}}>
        {{
            bright = ReduceMax<keepdims=1>(image, axis)
            mean = AveragePool<kernel_shape=[32,32], strides=[32,32]>(bright)
            flat = Reshape(mean, rows)
            above = Sub(flat, low)
            scaled = Mul(above, gain)
            cls_32 = Clip(scaled, zero, most)
            obj_32 = Identity(cls_32)
            nothing = Mul(flat, zero)
            bbox_32 = Add(nothing, box)
            kps_32 = Add(nothing, points)
            first = Slice(nothing, start, one, axis)
            {heads}
        }}""")


def _embedder() -> bytes:
    waves = np.random.default_rng(0).normal(0, 1 / 40, (3, 64))  # 40 grey levels make two colours
    return _model(f"""
        embedder (float[N,3,112,112] crop) => (float[N,128] features)
        <int64[2] start = {{28, 28}}, int64[2] end = {{84, 84}}, int64[2] axes = {{2, 3}},
        float[3,64] waves = {{{_numbers(waves)}}}>
        {{
            middle = Slice(crop, start, end, axes)
            colour = ReduceMean<keepdims=0>(middle, axes)
            angles = MatMul(colour, waves)
            c = Cos(angles)
            s = Sin(angles)
            features = Concat<axis=1>(c, s)
        }}""")


def _judge() -> bytes:
    more_red_than_blue = np.array([[0, 0.1, 0], [0, 0, 0], [0, -0.1, 0]])
    return _model(f"""
        judge (float[N,3,16,16] crop) => (float[N,3] logits)
        <int64[2] axes = {{2, 3}}, float[3,3] weights = {{{_numbers(more_red_than_blue)}}}>
        {{
            colour = ReduceMean<keepdims=0>(crop, axes)
            logits = MatMul(colour, weights)
        }}""")


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.6f}" for value in values.ravel())


def _model(graph: str) -> bytes:
    import onnx.parser

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{graph}')
    onnx.checker.check_model(model)
    return model.SerializeToString()
