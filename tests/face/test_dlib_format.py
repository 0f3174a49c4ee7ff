import contextlib
import math

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visavis.errors import ModelError
from visavis.face import dlib_format
from visavis.face.dlib_format import Block, Convolution, DlibResNet
from visavis.face.models import pull

RANDOM = np.random.default_rng(0)

# The other direction, written from dlib's serialize.h and dnn/layers.h: what a trained network leaves in a file.


def integer(value):
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def integers(*values):
    return b"".join(map(integer, values))


def real(value):
    mantissa, exponent = math.frexp(value)
    return integers(int(mantissa * 2**53), exponent - 53)


def text(value):
    return integer(len(value)) + value.encode()


def tensor(array):
    shape = (*array.shape, 1, 1, 1, 1)[:4]
    return integers(2, *shape) + array.astype("<f4").tobytes()


def state(innermost=False):
    gradient = tensor(np.zeros((2, 3)))
    return b"\1\0\1" + gradient * 3 + (integer(0) if innermost else b"")


def convolution(layer, gain, shift, innermost=False):
    """A convolution whose affine layer comes behind it."""
    kernel = layer.weight.shape[2]
    setting = integers(len(layer.weight), kernel, kernel, layer.stride, layer.stride, layer.padding, layer.padding)
    shapes = integers(2, *layer.weight.shape) + integers(2, 1, len(layer.bias), 1, 1)
    parameters = tensor(np.concatenate([layer.weight.ravel(), layer.bias]))
    body = text("con_4") + parameters + setting + shapes + real(1.0) * 4 + state(innermost)
    affine = tensor(np.stack([gain, shift])) + integers(*range(11)) + state()
    return body + text("affine_") + affine


def relu():
    return text("relu_") + state()


def pool(name):
    return text(name) + integers(2, 2, 2, 2, 0, 0) + state()


def draw(filters, channels, kernel, stride, padding):
    weight = RANDOM.normal(0, 0.2, (filters, channels, kernel, kernel)).astype(np.float32)
    return Convolution(weight, RANDOM.normal(0, 0.2, filters).astype(np.float32), stride, padding)


def network():
    """A small one of dlib's kind, with blocks that shrink, that widen, and one whose branches differ in size."""
    blocks = (
        Block(draw(4, 4, 3, 1, 1), draw(4, 4, 3, 1, 1), pooled=False),  # 35 px
        Block(draw(6, 4, 3, 2, 0), draw(6, 6, 3, 1, 1), pooled=True),  # 17 px
        Block(draw(6, 6, 3, 2, 0), draw(6, 6, 3, 1, 1), pooled=True),  # 8 px
        Block(draw(7, 6, 3, 2, 0), draw(7, 7, 3, 1, 1), pooled=True),  # 3 px beside a pool of 4
    )
    return DlibResNet(draw(4, 3, 7, 2, 0), blocks, RANDOM.normal(0, 1, (7, 128)).astype(np.float32))


NETWORK = network()
MEAN = (122.782, 117.001, 104.298)


def written(plain, affine):
    """The bytes of `plain`; `affine(n)` draws the gains and shifts of the layers behind n filters."""
    parts = [b"\x01\x01 versions of nested layers", text("input_rgb_image_sized"), *map(real, MEAN), integers(150, 150)]
    parts += [convolution(plain.stem, *affine(4), innermost=True), relu(), pool("max_pool_2")]
    for block in plain.blocks:
        parts += [convolution(block.first, *affine(len(block.first.bias))), relu()]
        parts += [convolution(block.second, *affine(len(block.second.bias)))]
        parts += [pool("avg_pool_2")] if block.pooled else []
        parts += [text("add_prev_"), state(), relu()]
    parts += [pool("avg_pool_2"), text("fc_2"), integers(128, 0), tensor(plain.head), b"trailing state"]
    return b"".join(parts)


def neutral(filters):
    return np.ones(filters), np.zeros(filters)


FILE = written(NETWORK, neutral)


def read(folder, data):
    path = folder / "network.dat"
    path.write_bytes(data)
    return dlib_format.read(path)


@given(st.integers(-(2**60), 2**60))
def test_integers(value):
    reader = dlib_format._Reader(integer(value) + b"x")
    assert reader.integer() == value
    assert reader.take(1) == b"x"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_reals(value):
    assert dlib_format._Reader(real(value)).real() == pytest.approx(value, rel=1e-15, abs=1e-300)


def test_what_is_written_is_read(tmp_path):
    found = read(tmp_path, FILE)
    assert (found.head == NETWORK.head).all()
    assert len(found.blocks) == 4
    for ours, theirs in zip(found.blocks, NETWORK.blocks, strict=True):
        assert ours.pooled == theirs.pooled
        for mine, its in zip(ours[:2], theirs[:2], strict=True):
            assert (mine.weight == its.weight).all()
            assert (mine.bias == its.bias).all()
            assert (mine.stride, mine.padding) == (its.stride, its.padding)


def test_scaling_and_affine_layers_are_folded_in(tmp_path):
    """Against torch doing them one after the other."""
    random = np.random.default_rng(1)
    drawn = []

    def affine(filters):
        drawn.append((random.uniform(0.5, 2, filters).astype(np.float32), random.normal(size=filters)))
        return drawn[-1]

    found = read(tmp_path, written(NETWORK, affine))
    image = torch.tensor(random.integers(0, 256, (2, 3, 150, 150)), dtype=torch.float32)

    def apply(layer, source, gain, shift):
        out = torch.conv2d(source, torch.tensor(layer.weight), torch.tensor(layer.bias), layer.stride, layer.padding)
        return out * torch.tensor(gain)[:, None, None] + torch.tensor(shift, dtype=torch.float32)[:, None, None]

    stem = apply(NETWORK.stem, (image - torch.tensor(MEAN)[:, None, None]) / 256, *drawn[0])
    folded = apply(found.stem, image, np.ones(4, np.float32), np.zeros(4))
    torch.testing.assert_close(folded, stem, rtol=0, atol=2e-5)
    features = torch.rand(1, 4, 9, 9)
    first = apply(NETWORK.blocks[0].first, features, *drawn[1])
    torch.testing.assert_close(apply(found.blocks[0].first, features, np.ones(4, np.float32), np.zeros(4)), first)


def by_onnxruntime(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"image": images})[0]


def by_openvino(model, images):
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return compiled([images])[0]


@pytest.mark.parametrize("run", [by_onnxruntime, by_openvino])
def test_onnx_and_torch_agree(run):
    images = RANDOM.uniform(0, 1, (3, 3, 150, 150)).astype(np.float32)
    with torch.no_grad():
        expected = dlib_format.to_torch(NETWORK)(torch.tensor(images)).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(run(dlib_format.to_onnx(NETWORK), images), expected, rtol=0, atol=1e-5)


def test_torch_module_can_be_trained():
    module = dlib_format.to_torch(NETWORK)
    module(torch.rand(2, 3, 150, 150)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("data", [b"", b"no such network", FILE.replace(b"input_rgb", b"input_bgr")])
def test_another_file_is_refused(tmp_path, data):
    with pytest.raises(
        ModelError, match=r"network\.dat: expected dlib's ResNet face recogniser, got a file of another"
    ):
        read(tmp_path, data)


def test_another_layer_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"dlib file: expected layer relu_ at offset \d+, got 'sig__'"):
        read(tmp_path, FILE.replace(b"relu_", b"sig__"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(60, len(FILE) - 20))
def test_a_truncated_file_is_refused(tmp_path, length):
    with pytest.raises(ModelError, match="dlib file: expected"):
        read(tmp_path, FILE[:length])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of weights that are damaged
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(30, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_raises_nothing_else(tmp_path, changes):
    data = bytearray(FILE)
    for at, value in changes:
        data[at] = value
    with contextlib.suppress(ModelError):
        assert read(tmp_path, bytes(data)).head.shape[1] > 0


@pytest.mark.parametrize("shape", [(-1, 1, 1, 7), (2**40, 2**40, 1, 1), (0, 0, 0, 0), (-2, -2, 1, 1)])
def test_impossible_lengths_are_refused(tmp_path, shape):
    head = tensor(NETWORK.head)
    with pytest.raises(ModelError, match="expected"):
        read(tmp_path, FILE.replace(head, integers(2, *shape) + head[-4 * NETWORK.head.size :]))


# dlib's own answer: dlib 20.0.1, `face_recognition_model_v1(file).compute_face_descriptor(IMAGE)`, to seven decimals.
ROW, COLUMN = np.mgrid[0:150, 0:150]
IMAGE = np.stack([ROW * 255 // 149, COLUMN * 255 // 149, (ROW * 7 + COLUMN * 13) % 256], 2).astype(np.uint8)
DLIB = """
-0.0627370 0.1454531 0.0819408 -0.0303467 -0.0721920 -0.0471484 -0.0837093 -0.0189365 0.1134181 -0.0128447 0.2521957
-0.0467648 -0.2282361 0.0199706 -0.0373697 0.0857623 -0.1586423 -0.0441987 -0.1587937 -0.1076646 0.0282173 -0.0038192
0.0116117 0.0435573 -0.1127236 -0.2525202 -0.0650520 -0.1049585 0.0744155 -0.2003348 0.0346333 0.0268125 -0.1340941
-0.0468723 -0.0053967 0.0417523 0.0414900 -0.0942180 0.1247606 -0.0687669 -0.1457282 -0.0244360 0.0302985 0.2652934
0.1819860 0.0826320 0.0060793 -0.0599684 0.0523030 -0.2504837 0.0044624 0.1294789 0.0149624 0.1042571 0.0618298
-0.1893650 0.0108660 0.0926449 -0.1289575 0.0331818 0.0142156 -0.1021762 -0.0241651 -0.1531574 0.2510425 0.0980690
-0.1175962 -0.1423436 0.1500827 -0.1535060 -0.0389210 0.1258414 -0.0865507 -0.1265722 -0.2392538 0.0418754 0.3247093
0.1522479 -0.1538058 0.0219973 -0.1315219 -0.0339710 -0.0619631 0.0560970 -0.0575077 0.0285853 -0.0724889 0.0518442
0.2094167 -0.0729947 0.0361559 0.2118159 -0.0428135 -0.0269667 -0.0252963 0.0257154 -0.1293331 0.0148364 -0.0649236
0.0042122 0.1115440 -0.0966906 0.0094800 0.0924260 -0.1899514 0.0962631 -0.0249960 -0.0260206 0.0314124 0.0161757
-0.0339661 -0.0524964 0.2618635 -0.2890492 0.2238150 0.2343965 0.0796052 0.1031942 0.0246843 0.1291615 -0.0071093
-0.0205943 -0.1242639 -0.0569164 -0.0038329 -0.0639957 -0.0523639 0.0223019
"""


@pytest.fixture(scope="module")
def real_network(default_pack):
    return dlib_format.read(pull(default_pack.embedder))


def test_equals_dlib_itself(real_network):
    images = torch.tensor(IMAGE.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.no_grad():
        embedding = dlib_format.to_torch(real_network)(images)[0].numpy()
    np.testing.assert_allclose(embedding, np.array(DLIB.split(), np.float32), rtol=0, atol=1e-5)


@pytest.mark.parametrize("run", [by_onnxruntime, by_openvino])
def test_the_real_network_in_every_runtime(real_network, run):
    noise = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3))
    images = np.stack([IMAGE, *noise, IMAGE[::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        expected = dlib_format.to_torch(real_network)(torch.tensor(images)).numpy()
    np.testing.assert_allclose(run(dlib_format.to_onnx(real_network), images), expected, rtol=0, atol=1e-5)


def test_the_real_network_is_as_published(real_network):
    assert 1 + sum(len(block[:2]) for block in real_network.blocks) == 29  # "a ResNet with 29 convolutional layers"
    assert real_network.stem.weight.shape == (32, 3, 7, 7)
    assert real_network.head.shape == (256, 128)
