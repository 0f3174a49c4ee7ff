"""The network is a matrix product made here: what it should return is one line of numpy."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.face.test_align import dots
from visavis.errors import LandmarkError, ModelError, TensorError
from visavis.face import align
from visavis.face.embed import Embedder
from visavis.face.models import Licence, ModelInput, ModelSpec, pull

WIDTH, HEIGHT, DIM = 6, 8, 5
RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(3 * HEIGHT * WIDTH, DIM)).astype(np.float32)
TEMPLATE = ((1.5, 2.0), (4.5, 2.0), (3.0, 4.0), (2.0, 6.0), (4.0, 6.0))
SPEC = ModelSpec("matrix", "embedder", Licence("CC0-1.0"), ModelInput("RGB", WIDTH, HEIGHT), (), template=TEMPLATE)
CROPS = RANDOM.integers(0, 256, (37, HEIGHT, WIDTH, 3), np.uint8)  # more than two batches


def network(path, weight=WEIGHT):
    """Two outputs: twice the features come first."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["features"]),
        helper.make_node("Add", ["features", "features"], ["twice"]),
    ]
    graph = helper.make_graph(
        nodes,
        "matrix",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, DIM]) for name in ("twice", "features")],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def load(tmp_path):
    def load(spec=SPEC, **options):
        return Embedder(spec, network(tmp_path / "matrix.onnx", **options))

    return load


def features(crops, spec=SPEC):
    pixels = (crops if spec.input.colour == "RGB" else crops[..., ::-1]).astype(np.float64)
    pixels = (pixels - spec.input.mean) * spec.input.scale
    return pixels.transpose(0, 3, 1, 2).reshape(len(crops), -1) @ WEIGHT


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_pixels_reach_the_network_as_described(load, colour):
    given = ModelInput(colour, WIDTH, HEIGHT, mean=(100.0, 120.0, 140.0), scale=(0.5, 0.01, 0.125))
    spec = replace(SPEC, input=given, outputs=("features",))
    embeddings, norms = load(spec)(CROPS)
    np.testing.assert_allclose(embeddings, unit(features(CROPS, spec)), atol=1e-5)
    np.testing.assert_allclose(norms, np.linalg.norm(features(CROPS, spec), axis=1), rtol=1e-5)
    assert embeddings.dtype == norms.dtype == np.float32


def test_embeddings_are_of_unit_length(load):
    embedder = load()
    embeddings, _ = embedder(CROPS)
    assert embedder.dim == DIM
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


def test_a_batch_equals_one_by_one(load):
    embedder = load()
    embeddings, norms = embedder(CROPS)
    for index in range(len(CROPS)):
        alone, norm = embedder(CROPS[index : index + 1])
        np.testing.assert_allclose(alone[0], embeddings[index], atol=1e-6)
        np.testing.assert_allclose(norm[0], norms[index], rtol=1e-5)


def test_flipping_averages_features_before_their_length_is_taken(load):
    embeddings, norms = load(replace(SPEC, outputs=("features",)))(CROPS, flip=True)
    mean = (features(CROPS) + features(CROPS[:, :, ::-1])) / 2
    np.testing.assert_allclose(embeddings, unit(mean), atol=1e-5)
    np.testing.assert_allclose(norms, np.linalg.norm(mean, axis=1), rtol=1e-4)
    mirrored, _ = load()(CROPS[:, :, ::-1], flip=True)
    np.testing.assert_allclose(mirrored, embeddings, atol=1e-6)


def test_the_named_output_is_taken(load):
    for outputs, factor in (((), 2), (("twice",), 2), (("features",), 1)):
        _, norms = load(replace(SPEC, outputs=outputs))(CROPS)
        np.testing.assert_allclose(norms, factor * np.linalg.norm(features(CROPS), axis=1), rtol=1e-5)
    with pytest.raises(ModelError, match="matrix: expected an output embedding, got "):
        load(replace(SPEC, outputs=("embedding",)))


@pytest.mark.parametrize("flip", [False, True])
def test_no_crop_no_embedding(load, flip):
    embeddings, norms = load()(CROPS[:0], flip=flip)
    assert (embeddings.shape, norms.shape) == ((0, DIM), (0,))
    assert embeddings.dtype == np.float32


def test_another_dimension_than_described_is_refused(load):
    load(replace(SPEC, dim=DIM))
    with pytest.raises(ModelError, match="matrix: expected embeddings of 6 numbers, got 5"):
        load(replace(SPEC, dim=6))


def test_another_input_size_than_the_network_s_is_refused(load):
    with pytest.raises(ModelError, match=r"matrix.onnx: expected to run on \[1, 3, 9, 6\], got: .+"):
        load(replace(SPEC, input=ModelInput("RGB", WIDTH, HEIGHT + 1)))
    with pytest.raises(ModelError, match="matrix: expected an embedder with a fixed input size, got any size"):
        load(replace(SPEC, input=ModelInput("RGB")))


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_without_features_is_refused(load, flip):
    crops = CROPS[:3].copy()
    crops[1] = 0
    with pytest.raises(LandmarkError, match="crops: expected faces, got a crop whose features vanish"):
        load()(crops, flip=flip)
    with pytest.raises(LandmarkError, match="crops: expected faces, got a crop whose features vanish"):
        load(weight=WEIGHT * np.float32(np.nan))(CROPS, flip=flip)


def test_crops_of_another_size_or_dtype_are_refused(load):
    embedder = load()
    with pytest.raises(TensorError, match=r"crops: expected uint8 \[any, 8, 6, 3\], got uint8 \[37, 6, 8, 3\]"):
        embedder(CROPS.transpose(0, 2, 1, 3))
    with pytest.raises(TensorError, match=r"crops: expected uint8 \[any, 8, 6, 3\], got float32 \[37, 8, 6, 3\]"):
        embedder(CROPS.astype(np.float32))


def test_faces_are_cut_to_the_network_s_template_and_size(load):
    template = np.array(TEMPLATE)
    face = load().align(dots(template * 4 + 20, 3.0, 70, 80), template * 4 + 20)
    assert face.crop.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(face.matrix, [[0.25, 0, -5], [0, 0.25, -5]], atol=1e-9)
    named = replace(SPEC, template="arcface-112")
    face = load(named).align(np.zeros((112, 112, 3), np.uint8), align.TEMPLATES["arcface-112"])
    np.testing.assert_allclose(face.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


@pytest.mark.parametrize("pack", ["default_pack", "fast_pack"])
def test_the_packs_embedders(pack, request):
    spec = request.getfixturevalue(pack).embedder
    embedder = Embedder(spec, pull(spec))
    assert embedder.dim == spec.dim
    crops = RANDOM.integers(0, 256, (17, spec.input.height, spec.input.width, 3), np.uint8)
    crops[0] = 0  # black crops have features too: the networks have biases
    embeddings, norms = embedder(crops)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    assert (norms > 0).all()
    alone, _ = embedder(crops[5:6])
    np.testing.assert_allclose(alone[0], embeddings[5], atol=1e-5)
    both, _ = embedder(crops, flip=True)
    mirrored, others = embedder(np.ascontiguousarray(crops[:, :, ::-1]))
    np.testing.assert_allclose(both, unit(embeddings * norms[:, None] + mirrored * others[:, None]), atol=1e-5)
