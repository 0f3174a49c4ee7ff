import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tests.conftest import shared
from visavis.errors import InputError, ModelError, TensorError
from visavis.face import detect
from visavis.face.detect import Detector, suppress
from visavis.face.models import ModelInput, models, pull
from visavis.face.runtime import Network

CENTERFACE, YUNET = models()["centerface"], models()["yunet-2023mar"]
FIVE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])  # of a box


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class Recorded:
    """A network whose outputs are drawn at random, anew for each image; it keeps what it was fed.

    YuNet's file strings the cells of a batch together on axis 1.
    """

    def __init__(self, outputs):
        self.outputs, self.canvases = outputs, []

    def __call__(self, canvas):
        self.canvases.append(canvas.copy())
        return stacked([self.outputs(one[None]) for one in canvas], axis=1 if self.outputs is random_yunet else 0)


def stacked(outputs, axis=0):
    return {name: np.concatenate([of_one[name] for of_one in outputs], axis) for name in outputs[0]}


def random_centerface(canvas):
    random = np.random.default_rng(int(canvas.sum()))
    rows, columns = canvas.shape[2] // 4, canvas.shape[3] // 4
    return {
        "537": random.uniform(0, 1, (1, 1, rows, columns)).astype(np.float32) ** 6,
        "538": random.normal(1.9, 0.5, (1, 2, rows, columns)).astype(np.float32),
        "539": random.uniform(-0.5, 0.5, (1, 2, rows, columns)).astype(np.float32),
        "540": random.uniform(0, 1, (1, 10, rows, columns)).astype(np.float32),
    }


def random_yunet(canvas):
    random, outputs = np.random.default_rng(int(canvas.sum())), {}
    for stride in (8, 16, 32):
        cells = (canvas.shape[2] // stride) * (canvas.shape[3] // stride)
        outputs[f"cls_{stride}"] = random.uniform(-0.1, 1.1, (1, cells, 1)).astype(np.float32)
        outputs[f"obj_{stride}"] = random.uniform(-0.1, 1.1, (1, cells, 1)).astype(np.float32)
        outputs[f"bbox_{stride}"] = random.normal(0.7, 0.5, (1, cells, 4)).astype(np.float32)
        outputs[f"kps_{stride}"] = random.normal(0, 0.5, (1, cells, 10)).astype(np.float32)
    return outputs


def by_hand_centerface(outputs, canvas_shape, min_score):
    """Xu et al., arXiv:1911.03599, as its authors' script reads it; (score, box, landmarks) by canvas corners."""
    for row in range(canvas_shape[2] // 4):
        for column in range(canvas_shape[3] // 4):
            score = outputs["537"][0, 0, row, column]
            if score < min_score:
                continue
            height, width = (4 * math.exp(outputs["538"][0, k, row, column]) for k in (0, 1))
            top = (row + outputs["539"][0, 0, row, column] + 0.5) * 4 - height / 2
            left = (column + outputs["539"][0, 1, row, column] + 0.5) * 4 - width / 2
            points = [
                (left + outputs["540"][0, 2 * k + 1, row, column] * width,
                 top + outputs["540"][0, 2 * k, row, column] * height)
                for k in range(5)
            ]  # fmt: skip
            yield score, (left, top, left + width, top + height), points


def by_hand_yunet(outputs, canvas_shape, min_score):
    """Wu et al., Machine Intelligence Research 20, 2023, as OpenCV's face_detect.cpp reads it."""
    for stride in (8, 16, 32):
        columns = canvas_shape[3] // stride
        for cell in range(len(outputs[f"cls_{stride}"][0])):
            row, column = divmod(cell, columns)
            certain = [min(max(float(outputs[f"{head}_{stride}"][0, cell, 0]), 0), 1) for head in ("cls", "obj")]
            score = math.sqrt(certain[0] * certain[1])
            if score < min_score:
                continue
            dx, dy, log_width, log_height = outputs[f"bbox_{stride}"][0, cell]
            x, y = (column + dx) * stride, (row + dy) * stride
            width, height = math.exp(log_width) * stride, math.exp(log_height) * stride
            points = [
                ((outputs[f"kps_{stride}"][0, cell, 2 * k] + column) * stride,
                 (outputs[f"kps_{stride}"][0, cell, 2 * k + 1] + row) * stride)
                for k in range(5)
            ]  # fmt: skip
            yield score, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), points


def kept_by_enumeration(boxes, scores, overlap=0.4):
    """Non-maximum suppression by its definition."""

    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable
        for j in kept:
            a, b = boxes[i], boxes[j]
            common = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
            if common > overlap * (area(a) + area(b) - common) or common > 0.8 * area(a):
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize(
    ("spec", "outputs", "by_hand"),
    [(CENTERFACE, random_centerface, by_hand_centerface), (YUNET, random_yunet, by_hand_yunet)],
    ids=["centerface", "yunet"],
)
@pytest.mark.parametrize("size", [(130, 200), (192, 100), (300, 256)])
@pytest.mark.parametrize("min_score", [0.6, 0.8])
def test_outputs_are_read_as_published(spec, outputs, by_hand, size, min_score):
    network = Recorded(outputs)
    (found,) = Detector(network, spec)([noise(*size)], min_score=min_score, min_size_px=12.0)
    (canvas,) = network.canvases
    expected = list(by_hand(outputs(canvas), canvas.shape, min_score))
    expected = [e for e in expected if min(e[1][2] - e[1][0], e[1][3] - e[1][1]) >= 12.0]
    scores, boxes, points = map(np.array, zip(*expected, strict=True))
    kept = kept_by_enumeration(boxes, scores)
    assert 3 < len(kept) < len(expected)
    assert len(found) == len(kept)
    for detection, index in zip(found, kept, strict=True):
        assert detection.score == pytest.approx(scores[index], abs=1e-6)
        np.testing.assert_allclose(detection.box_xyxy_px, boxes[index] - 0.5, atol=1e-3)
        np.testing.assert_allclose(detection.landmarks_xy_px, points[index] - 0.5, atol=1e-3)
        assert detection.box_xyxy_px.dtype == detection.landmarks_xy_px.dtype == np.float32


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_the_network_is_fed_what_its_description_says(colour):
    mean, scale = np.array([10.0, 20.0, 30.0]), np.array([0.5, 0.25, 0.125])
    spec = replace(CENTERFACE, input=ModelInput(colour, mean=tuple(mean), scale=tuple(scale)))
    network, image = Recorded(random_centerface), noise(250, 200)
    Detector(network, spec)([image])
    (canvas,) = network.canvases
    assert canvas.shape == (1, 3, 256, 256)
    assert canvas.dtype == np.float32
    ordered = image if colour == "RGB" else image[:, :, ::-1]
    np.testing.assert_allclose(canvas[0, :, :250, :200].transpose(1, 2, 0), (ordered - mean) * scale, rtol=1e-6)
    assert not canvas[0, :, 250:].any()
    assert not canvas[0, :, :, 200:].any()


BOXES = st.lists(
    st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(-1, 12)] * 2, st.sampled_from([0.3, 0.5, 0.7, 0.9])), max_size=25
)


@given(BOXES, st.sampled_from([0.2, 0.4, 0.7]))
def test_suppression_by_enumeration(rows, overlap):
    values = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], 1)
    kept = suppress(boxes, values[:, 4], overlap=overlap)
    assert kept.dtype == np.int64
    assert list(kept) == kept_by_enumeration(boxes.tolist(), values[:, 4].tolist(), overlap)


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(256, 2048))
def test_tiles_cover_every_pixel_and_overlap(height, width, side):
    corners = list(detect._tile_corners(height, width, side))
    for axis, length in ((0, height), (1, width)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == 0
        assert starts[-1] + side >= length
        assert starts[-1] <= max(0, length - side)  # none reaches past the image
        assert all(later - earlier <= side - 128 for earlier, later in itertools.pairwise(starts))
    assert len(corners) == len(set(corners))


def spots(canvas):
    """A network that sees each white rectangle of at least 8 px, with nothing learned: CenterFace's outputs."""
    if len(canvas) > 1:
        return stacked([spots(one[None]) for one in canvas])
    rows, columns = canvas.shape[2] // 4, canvas.shape[3] // 4
    heat = np.zeros((1, 1, rows, columns), np.float32)
    size, offset = np.zeros((2, 1, 2, rows, columns), np.float32)
    points = np.zeros((1, 10, rows, columns), np.float32)
    labels, _ = ndimage.label(canvas[0].mean(0) > 127)
    for rows_of, columns_of in ndimage.find_objects(labels):
        low = np.array([rows_of.start, columns_of.start])
        extent = np.array([rows_of.stop, columns_of.stop]) - low
        if extent.min() < 8:
            continue
        middle = (low + extent / 2) / 4
        cell = np.floor(middle).astype(int)
        heat[0, 0, cell[0], cell[1]] = 0.95 - 0.0004 * extent.min()  # a part would win over the whole
        size[0, :, cell[0], cell[1]] = np.log(extent / 4)
        offset[0, :, cell[0], cell[1]] = middle - cell - 0.5
        points[0, :, cell[0], cell[1]] = FIVE[:, ::-1].ravel()
    return {"537": heat, "538": size, "539": offset, "540": points}


def with_rectangles(height, width, *boxes):
    """Black with white rectangles from pixel (left, top) up to, without, (right, bottom)."""
    image = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 255
    return image


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((400, 300), (40, 60, 140, 200)),
        ((1024, 1024), (0, 0, 1024, 1024)),
        ((3000, 4000), (2800, 1600, 3650, 2800)),  # shrunk
        ((4000, 3000), (12, 3000, 1000, 3990)),
        ((2049, 1366), (600, 500, 1000, 1100)),  # by a factor that does not divide
        ((60, 80), (20, 10, 70, 50)),  # enlarged
        ((100, 5000), (100, 5, 400, 95)),
    ],
)
def test_boxes_and_points_are_in_pixels_of_the_image(size, box):
    ((found,),) = Detector(spots, CENTERFACE)([with_rectangles(*size, box)])
    edges = np.array(box) - 0.5  # centres are whole numbers
    step = max(1.0, max(size) / 1024)  # one pixel of what the network sees
    np.testing.assert_allclose(found.box_xyxy_px, edges, atol=0.75 * step)
    expected = edges[:2] + FIVE * (edges[2:] - edges[:2])
    np.testing.assert_allclose(found.landmarks_xy_px, expected, atol=0.75 * step)


def test_tiles_find_what_is_too_small_in_the_whole():
    corners = [(20 + 97 * i, 30 + 613 * i % 2900) for i in range(40)]
    small = [(x, y, x + 26, y + 24) for x, y in corners if not (1460 < x < 2515 and 960 < y < 2015)]
    large = (1500, 1000, 2500, 2000)  # than a tile: only the whole shows it
    image, detector = with_rectangles(3000, 4000, large, *small), Detector(spots, CENTERFACE)
    assert len(detector([image])[0]) == 1
    (found,) = detector([image], tiles=True, long_side_px=900)
    boxes = sorted(np.round(d.box_xyxy_px + 0.5).tolist() for d in found)
    np.testing.assert_allclose(boxes, sorted([large, *small]), atol=4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_tile_s_edge_cuts_no_face(turned):
    detector = Detector(spots, CENTERFACE)
    for left in range(950, 1050):  # too small for the whole, and cut by one of the two tiles on the way
        image = with_rectangles(200, 2000, (left, 100, left + 12, 120))
        image = image.transpose(1, 0, 2) if turned else image
        ((found,),) = detector([image], tiles=True, long_side_px=1024, min_size_px=8.0)
        box = np.array([left, 100, left + 12, 120]) - 0.5
        np.testing.assert_allclose(found.box_xyxy_px, box[[1, 0, 3, 2]] if turned else box, atol=1e-3)


def test_smaller_than_the_least_size_is_dropped():
    image = with_rectangles(400, 400, (10, 10, 40, 60), (100, 100, 120, 300))
    detector = Detector(spots, CENTERFACE)
    assert [len(detector([image], min_size_px=size)[0]) for size in (19, 21, 29, 31)] == [2, 1, 1, 0]


def test_each_image_may_have_its_own_least_size():
    images = [with_rectangles(400, 400, (10, 10, 40, 60))] * 3
    found = Detector(spots, CENTERFACE)(images, min_size_px=[29.0, 31.0, 29.0])
    assert [len(faces) for faces in found] == [1, 0, 1]


def test_low_scores_are_dropped():
    detector = Detector(spots, CENTERFACE)
    image = with_rectangles(400, 400, (10, 10, 40, 60))
    assert [len(detector([image], min_score=score)[0]) for score in (0.93, 0.945, 1.0)] == [1, 0, 0]


@pytest.mark.parametrize(("spec", "outputs"), [(CENTERFACE, random_centerface), (YUNET, random_yunet)])
@pytest.mark.parametrize("tiles", [False, True])
def test_many_images_in_one_call_equal_one_by_one(spec, outputs, tiles):
    sizes = [(300, 200), (64, 64), (0, 7), (310, 190), (1, 1), (900, 700), *[(200, 240)] * 9, (300, 200)]
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    network = Recorded(outputs)
    detector = Detector(network, spec)
    options = {"min_score": 0.9, "tiles": tiles, "long_side_px": 512, "min_size_px": 1.0}
    together = detector(images, **options)
    assert {len(canvas) for canvas in network.canvases} == {1, 4}
    assert sum(map(len, together)) > 50
    for many, (alone,) in zip(together, (detector([image], **options) for image in images), strict=True):
        assert len(many) == len(alone)
        for first, second in zip(many, alone, strict=True):
            assert first.score == second.score
            assert (first.box_xyxy_px == second.box_xyxy_px).all()
            assert (first.landmarks_xy_px == second.landmarks_xy_px).all()


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (0, 5)])
def test_degenerate_images_hold_no_face(size, tiles):
    assert Detector(spots, CENTERFACE)([np.zeros((*size, 3), np.uint8)], tiles=tiles) == [[]]


def test_no_image_no_faces():
    assert Detector(spots, CENTERFACE)([]) == []


def test_what_is_out_of_range_is_refused():
    detector = Detector(spots, CENTERFACE)
    with pytest.raises(TensorError, match=r"image: expected uint8 \[any, any, 3\], got uint8 \[9, 9\]"):
        detector([np.zeros((9, 9), np.uint8)])
    for score in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match=r"min_score: expected a score in \[0, 1\], got"):
            detector([noise(9, 9)], min_score=score)
    with pytest.raises(InputError, match="long_side_px: expected at least 256, got 255"):
        detector([noise(9, 9)], long_side_px=255)


@pytest.mark.parametrize("spec", [CENTERFACE, YUNET])
def test_a_network_of_another_kind_is_refused(spec):
    with pytest.raises(ModelError, match=f"{spec.name}: expected an output '.+', got boxes, scores"):
        Detector(lambda canvas: {"boxes": canvas, "scores": canvas}, spec)([noise(9, 9)])


# With the real networks.


@pytest.fixture(params=["default", "fast"])
def detector(request):
    spec = request.getfixturevalue(f"{request.param}_pack").detector
    path = pull(spec)
    return Detector(Network(path, path.name, fixed_size=False), spec)


@pytest.fixture(scope="module")
def portrait():
    """A man to his chest, 220 x 335 px."""
    (path,) = shared("data", "celeb5", "train", "ben_afflek").glob("*GageSkidmore*.jpg")
    return np.asarray(Image.open(path).convert("RGB"))


def pasted(portrait, width, height, side, *corners):
    canvas = Image.new("RGB", (width, height), (120, 130, 110))
    small = Image.fromarray(portrait).resize((side, round(side * portrait.shape[0] / portrait.shape[1])), Image.BICUBIC)
    for corner in corners:
        canvas.paste(small, corner)
    return np.asarray(canvas)


def test_a_face_s_box_and_points_move_with_it(detector, portrait):
    first, *others = [(64, 32), (264, 32), (64, 232), (192, 160), (71, 45)]
    ((reference,),) = detector([pasted(portrait, 640, 640, 256, first)])
    extent = np.ptp(reference.box_xyxy_px.reshape(2, 2), axis=0).max()
    assert 80 < extent < 256
    for corner in others:
        ((found,),) = detector([pasted(portrait, 640, 640, 256, corner)])
        moved = np.array(corner) - first
        np.testing.assert_allclose(found.box_xyxy_px, reference.box_xyxy_px + np.tile(moved, 2), atol=0.05 * extent)
        np.testing.assert_allclose(found.landmarks_xy_px, reference.landmarks_xy_px + moved, atol=0.08 * extent)


def test_photos_of_one_size_together_equal_one_by_one(detector, portrait):
    """Nine: two batches of four, and one alone."""
    images = [pasted(portrait, 300, 300, 100 + 10 * shift, (5 * shift, 3 * shift)) for shift in range(9)]
    for (together,), image in zip(detector(images), images, strict=True):
        ((alone,),) = detector([image])
        np.testing.assert_allclose(together.box_xyxy_px, alone.box_xyxy_px, atol=0.01)
        np.testing.assert_allclose(together.landmarks_xy_px, alone.landmarks_xy_px, atol=0.01)
        assert together.score == pytest.approx(alone.score, abs=1e-4)


def test_a_least_size_for_each_photo():
    image, detector = with_rectangles(400, 400, (10, 10, 40, 60)), Detector(spots, CENTERFACE)
    assert [len(found) for found in detector([image] * 3, min_size_px=[29, 31, 30])] == [1, 0, 1]


@pytest.mark.parametrize("scale", [0.25, 0.6, 1.7, 5.0])
def test_a_face_s_box_and_points_scale_with_it(detector, portrait, scale):
    ((reference,),) = detector([pasted(portrait, 512, 512, 256, (128, 96))])
    image = Image.fromarray(pasted(portrait, 512, 512, 256, (128, 96)))
    ((found,),) = detector([np.asarray(image.resize((round(512 * scale),) * 2, Image.Resampling.LANCZOS))])
    extent = np.ptp(reference.box_xyxy_px.reshape(2, 2), axis=0).max()
    back = (found.landmarks_xy_px + 0.5) / (round(512 * scale) / 512) - 0.5
    np.testing.assert_allclose(back, reference.landmarks_xy_px, atol=0.08 * extent)
    assert np.abs((back - reference.landmarks_xy_px).mean(0)).max() < 0.04 * extent


def test_faces_found_together_are_those_found_alone(detector, portrait):
    images = [pasted(portrait, 400, 300, side, (64, 32)) for side in range(90, 180, 10)]
    for (together,), image in zip(detector(images), images, strict=True):
        ((alone,),) = detector([image])
        np.testing.assert_allclose(together.box_xyxy_px, alone.box_xyxy_px, atol=0.05)
        np.testing.assert_allclose(together.landmarks_xy_px, alone.landmarks_xy_px, atol=0.05)
        assert together.score == pytest.approx(alone.score, abs=1e-3)


def test_mirrored_faces_keep_left_on_the_left(detector, portrait):
    for image in (portrait, portrait[:, ::-1]):
        ((found,),) = detector([np.ascontiguousarray(image)])
        left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks_xy_px
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.slow
def test_small_faces_in_a_large_photo_need_tiles(detector, portrait):
    corners = [(300, 200), (2000, 1500), (3900, 2900), (1020, 700), (10, 2950), (2040, 20)]
    image = pasted(portrait, 4000, 3000, 32, *corners)
    (whole,), (tiled,) = detector([image]), detector([image], tiles=True)
    assert len(whole) == 0
    found = np.array([d.box_xyxy_px.reshape(2, 2).mean(0) for d in tiled])
    distance = np.linalg.norm(found[:, None] - (np.array(corners) + 16), axis=2)
    assert len(found) == len(corners)
    assert (distance.min(0) < 8).all()


def test_nothing_is_found_in_nothing(detector):
    flat = np.full((480, 640, 3), 128, np.uint8)
    assert detector([flat, flat[:1, :1], noise(300, 300)], tiles=True) == [[], [], []]
