"""The liveness stage against drawn networks whose answers are computed here in float64, and the real one against a
reader of its file that shares nothing with any runtime.
"""

import hashlib
import math
import sys
from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.face.tflite import run
from visavis.errors import InputError, ModelError, TensorError
from visavis.face import liveness
from visavis.face.liveness import MIN_FACE_PX, Liveness, surroundings
from visavis.face.models import ModelFile, PathSource, models, packs, pull, status
from visavis.face.photos import Decoded
from visavis.face.records import Detection, Live, Photo

SIDE = 16  # of the drawn networks' input
MINI = replace(
    models()["minifasnet-v2"], name="drawn", input=replace(models()["minifasnet-v2"].input, width=SIDE, height=SIDE)
)
TREE = replace(
    models()["face-anti-spoofing"],
    name="drawn",
    input=replace(models()["face-anti-spoofing"].input, width=SIDE, height=SIDE),
)
KINDS = {"minifasnet": MINI, "deep-tree": TREE}
GRAPHS = {  # a matrix on the flattened crop: a wrong axis, channel, corner or scale changes every answer
    "minifasnet": f"(float[1,3,{SIDE},{SIDE}] image) => (float[1,3] logits)",
    "deep-tree": f"(float[1,{SIDE},{SIDE},3] image) => (float[1,8] Identity)",
}


def matrix(kind):
    random = np.random.default_rng(5)
    scale = 1 / (255 * SIDE) if kind == "minifasnet" else 1 / (4 * SIDE)
    return random.normal(0, scale, (3 * SIDE * SIDE, 3 if kind == "minifasnet" else 8)).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Loads a stage whose network is `matrix(kind)`, by the runtime named."""

    def load(kind, runtime="openvino", graph=None, **changes):
        weights = matrix(kind)
        output = GRAPHS[kind].rpartition(" ")[2].rstrip(")")
        text = (
            graph
            or f"""{GRAPHS[kind]}
            <int64[2] rows = {{-1, {len(weights)}}},
            float[{weights.shape[0]},{weights.shape[1]}] weights = {{{", ".join(map(repr, weights.ravel().tolist()))}}}>
            {{ flat = Reshape(image, rows)
               {output} = MatMul(flat, weights) }}"""
        )
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\ndrawn {text}')
        data = model.SerializeToString()
        (tmp_path / "drawn.onnx").write_bytes(data)
        file = ModelFile(
            "drawn.onnx",
            len(data),
            f"sha256:{hashlib.sha256(data).hexdigest()}",
            (PathSource(tmp_path / "drawn.onnx"),),
        )
        monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
        spec = replace(KINDS[kind], variants=((file,),), **changes)
        with monkeypatch.context() as patch:
            if runtime == "onnxruntime":
                patch.setitem(sys.modules, "openvino", None)  # as if it were not installed
            return Liveness(replace(packs()["default"], liveness=spec))

    return load


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def box(*values):
    return np.array(values, np.float32)


def expected(kind, image, box):
    """The score in float64: the crop sampled bilinearly at the middles of SIDE x SIDE cells, edges repeated."""
    left, top, right, bottom = surroundings(box, KINDS[kind], image.shape[1], image.shape[0])
    part = image[top:bottom, left:right].astype(np.float64)
    crop = sampled(sampled(part, 0), 1).round()
    values = crop[..., ::-1].transpose(2, 0, 1) if kind == "minifasnet" else crop / 255
    answer = values.ravel() @ matrix(kind)
    if kind == "minifasnet":
        return math.exp(answer[1]) / sum(map(math.exp, answer))
    return min(max(1 - np.abs(answer).mean(), 0), 1)


def sampled(values, axis):
    length = values.shape[axis]
    place = np.clip((np.arange(SIDE) + 0.5) * length / SIDE - 0.5, 0, length - 1)
    low = np.floor(place).astype(int)
    share = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
    high = np.minimum(low + 1, length - 1)
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share


FACES = [
    (noise(300, 400), box(150, 100, 230, 200)),  # room on all sides
    (noise(300, 400, 1), box(-20, -30, 70, 80)),  # over the corner
    (noise(200, 150, 2), box(10, 10, 140, 190)),  # fills the photo
    (noise(90, 400, 3), box(380, 5, 450, 85)),  # half beside it
    (noise(120, 120, 4), box(-50, -50, 200, 200)),  # larger than the photo
    (noise(70, 70, 5), box(0.4, 0.4, 69.2, 69.2)),
]


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_scores_are_those_of_the_crop_in_float64(drawn, kind, runtime):
    answers = drawn(kind, runtime)(FACES)
    scores = [expected(kind, *face) for face in FACES]
    assert np.std(scores) > 0.03  # the networks do tell the crops apart
    np.testing.assert_allclose([one.score for one in answers], scores, atol=4e-3)  # Pillow rounds to whole grey levels


def test_a_batch_is_judged_as_one_by_one(drawn, kind):
    stage = drawn(kind)
    faces = FACES * 4  # more than a batch
    together = stage(faces)
    np.testing.assert_allclose([one.score for one in together], [stage([face])[0].score for face in faces], atol=1e-6)
    assert stage([]) == []


def test_live_from_the_threshold_on(drawn):
    score = drawn("minifasnet")(FACES[:1])[0].score
    assert drawn("minifasnet", threshold=score)(FACES[:1])[0] == Live(score, True)
    assert drawn("minifasnet", threshold=np.nextafter(score, 1))(FACES[:1])[0] == Live(score, False)


def test_of_small_faces_nothing_is_said(drawn):
    side = MIN_FACE_PX
    image = noise(300, 300)
    small, enough = box(10, 10, 9.5 + side, 9.5 + side), box(10, 10, 50, 10 + side)
    first, second, third = drawn("minifasnet")([(image, small), (image, enough), (image, small)])
    assert first == third == Live(None, None)
    assert second.score is not None


def test_detections_are_in_pixels_of_the_photo_whatever_was_decoded(drawn):
    stage = drawn("deep-tree")
    image = noise(300, 400)
    there = np.float32([99.8, 49.8, 199.8, 149.8])  # so that a shift by half a pixel of the photo rounds elsewhere
    [direct] = stage([(image, there)])
    photo = Photo(None, "", 1600, 1200, None)
    quartered = Detection((there + np.float32(0.5)) / 0.25 - np.float32(0.5), np.zeros((5, 2), np.float32), 1.0)
    assert stage.of_photo(Decoded(photo, image, 0.25), [quartered]) == [direct]
    assert stage.of_photo(Decoded(photo, image, 0.25), []) == []


@given(
    st.sampled_from(list(KINDS)),
    st.integers(1, 500),
    st.integers(1, 500),
    st.tuples(*[st.integers(-90, 95)] * 2),
    st.tuples(*[st.integers(5, 300)] * 2),
)
def test_surroundings_lie_in_the_photo_and_hold_the_middle_of_the_face(kind, width, height, corner, size):
    spec = KINDS[kind]
    low = np.array(corner) / 100 * [width, height]
    high = low + np.array(size) / 100 * [width, height]
    face = np.concatenate([low, high]).astype(np.float32)
    if not (face[2:] > face[:2]).all():
        return
    left, top, right, bottom = surroundings(face, spec, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wanted = (face[2:] - face[:2]).astype(np.float64)
    if kind == "deep-tree":
        wanted[:] = wanted.max()
    zoom = min(spec.crop, width / wanted[0], height / wanted[1])
    for side, length, start, end, limit in zip(
        wanted, (right - left, bottom - top), (left, top), (right, bottom), (width, height), strict=True
    ):
        assert abs(length - max(side * zoom, 1)) <= 0.5 + 1e-6 * limit
        axis = 0 if end == right and limit == width and start == left else 1
        middle = (face[axis] + face[axis + 2]) / 2 + 0.5
        if start > 0 and end < limit:  # not moved
            assert abs((start + end) / 2 - middle) <= 0.5 + 1e-5 * limit


def test_the_source_s_crop_is_met_within_its_rounding():
    """`CropImage` as Silent-Face-Anti-Spoofing has it, right and bottom inclusive."""
    for seed in range(200):
        random = np.random.default_rng(seed)
        width, height = random.integers(80, 400, 2)
        x, y = random.integers(0, [width - 30, height - 30])
        wide, high = random.integers(20, [width - x, height - y])
        scale = min((height - 1) / high, (width - 1) / wide, 2.7)
        low = np.array([x + wide / 2 - wide * scale / 2, y + high / 2 - high * scale / 2])
        end = low + np.array([wide, high]) * scale
        limit = np.array([width - 1, height - 1])
        shift = np.where(low < 0, -low, np.where(end > limit, limit - end, 0))
        theirs = [*(low + shift).astype(int), *((end + shift).astype(int) + 1)]
        ours = surroundings(box(x, y, x + wide, y + high), MINI, int(width), int(height))
        assert np.abs(np.array(ours) - theirs).max() <= 2


@pytest.mark.parametrize(
    "wrong", [(10, 10, 10, 20), (20, 10, 10, 20), (10, 10, 20, 10), (np.nan, 0, 9, 9), (0, 0, np.inf, 9)]
)
def test_a_box_without_an_area_is_refused(drawn, wrong):
    with pytest.raises(InputError, match="box: expected left < right and top < bottom, got"):
        drawn("minifasnet")([(noise(80, 100), box(*wrong))])


def test_a_photo_without_pixels_is_refused(drawn):
    with pytest.raises(InputError, match="image: expected at least a pixel, got 0 x 9"):
        drawn("deep-tree")([(np.zeros((9, 0, 3), np.uint8), box(0, 0, 99, 99))])


def test_a_box_beside_the_photo_gets_the_part_nearest_to_it():
    assert surroundings(box(500, -90, 540, -50), TREE, 100, 80) == (60, 0, 100, 40)
    assert surroundings(box(-90, 300, -10, 340), MINI, 100, 80) == (0, 30, 100, 80)


def test_wrong_shapes_and_types_are_refused(drawn):
    stage = drawn("minifasnet")
    with pytest.raises(TensorError, match="image"):
        stage([(np.zeros((80, 100), np.uint8), box(0, 0, 80, 80))])
    with pytest.raises(TensorError, match="box"):
        stage([(noise(80, 100), box(0, 0, 80))])


def test_a_network_of_another_kind_is_told(drawn):
    with pytest.raises(ModelError, match=r"drawn: expected the outputs of a minifasnet, got logits \[1, 1\]"):
        drawn(
            "minifasnet",
            graph=f"""(float[1,3,{SIDE},{SIDE}] image) => (float[1,1] logits) <int64[1] axes = {{1}}>
                {{ flat = Flatten<axis=1>(image)
                   logits = ReduceMean<keepdims=1>(flat, axes) }}""",
        )(FACES[:1])
    with pytest.raises(ModelError, match=r"drawn: expected the outputs of a deep-tree, got other \[1, 768\]"):
        drawn(
            "deep-tree",
            graph=f"(float[1,{SIDE},{SIDE},3] image) => (float[1,768] other) {{ other = Flatten<axis=1>(image) }}",
        )(FACES[:1])


def test_a_pack_without_one_says_so():
    with pytest.raises(ModelError, match="pack default: expected a liveness model, got none; add `liveness"):
        Liveness(replace(packs()["default"], liveness=None))


def test_an_input_of_any_size_is_refused(drawn):
    with pytest.raises(
        ModelError, match="drawn: expected a liveness model with a fixed input size and a threshold, got none"
    ):
        drawn("minifasnet", input=replace(MINI.input, width=None))


@pytest.fixture
def real():
    spec = models()["face-anti-spoofing"]
    if not status(spec).present:
        pytest.skip("needs `visavis face models pull face-anti-spoofing`")
    return Liveness(packs()["default"])


@pytest.mark.slow
def test_the_real_network_is_run_as_its_file_says(real):
    """The runtime's answer against the file's operators one by one, in double precision."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for image in (coarse.repeat(32, 0).repeat(32, 1), noise(256, 256)):
        outputs = run(pull(real.spec), image[None] / np.float32(255))
        score = 1 - np.abs(outputs["Identity"]).mean()
        [answer] = real([(image, box(-0.5, -0.5, 255.5, 255.5))])
        assert answer.score == pytest.approx(min(max(score, 0), 1), abs=1e-4)


def test_kinds_of_the_manifest_are_all_read():
    assert {spec.kind for spec in models().values() if spec.role == "liveness"} == set(liveness._KINDS) == set(KINDS)
