import sys
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from visavis.errors import MissingExtraError, ModelError
from visavis.face import dlib_format, runtime
from visavis.face.models import pull
from visavis.face.runtime import Network

WEIGHT = np.array([[0.5, -1.0, 2.0], [-0.25, 0.5, 0.125]], np.float32)
RUNTIMES = ("openvino", "onnxruntime")


def tiny(height=8, width=8, kind="Relu", shape=None):
    """A 1 x 1 convolution and its mean over all pixels, as ONNX bytes made for one size."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["linear"]),
        helper.make_node(kind, ["linear"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
    ]
    outputs = {"map": [1, 2, height, width], "mean": [1, 2, 1, 1]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape or [1, 3, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(WEIGHT[:, :, None, None], "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture
def network(monkeypatch):
    """A function that loads by the runtime named."""

    def load(runtime, *arguments, **options):
        with monkeypatch.context() as patch:
            if runtime == "onnxruntime":
                patch.setitem(sys.modules, "openvino", None)  # as if it were not installed
            loaded = Network(*arguments, **options)
        assert loaded.runtime == runtime
        return loaded

    return load


def noise(*shape):
    return np.random.default_rng(sum(shape)).uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_batch_and_size(network, runtime, capfd):
    run = network(runtime, tiny(), "tiny", fixed_size=False)
    for shape in ((1, 3, 8, 8), (2, 3, 8, 8), (5, 3, 64, 32), (1, 3, 1, 1), (3, 3, 7, 100)):
        image = noise(*shape)
        outputs = run(image)
        expected = np.maximum(np.einsum("oi,nihw->nohw", WEIGHT, image.astype(np.float64)), 0)
        np.testing.assert_allclose(outputs["map"], expected, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(outputs["mean"], expected.mean((2, 3), keepdims=True), rtol=1e-5, atol=1e-3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fixed_size_takes_any_batch(network, runtime):
    run = network(runtime, tiny(), "tiny", fixed_size=True)
    assert run(noise(7, 3, 8, 8))["mean"].shape == (7, 2, 1, 1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_that_does_not_fit_is_refused(network, runtime):
    for fixed_size, shape in ((True, (1, 3, 9, 8)), (False, (1, 4, 8, 8))):
        run = network(runtime, tiny(), "tiny", fixed_size=fixed_size)
        with pytest.raises(ModelError, match=rf"tiny: expected to run on \[1, {shape[1]}, {shape[2]}, 8\], got: .+"):
            run(noise(*shape))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_results_are_the_caller_s_to_keep(network, runtime):
    run = network(runtime, tiny(), "tiny", fixed_size=True)
    first = run(noise(1, 3, 8, 8))["map"]
    kept = first.copy()
    run(-noise(1, 3, 8, 8))
    assert (first == kept).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bytes_and_file_are_one(network, runtime, tmp_path):
    (tmp_path / "tiny é.onnx").write_bytes(tiny())
    image = noise(2, 3, 8, 8)
    outputs = [
        network(runtime, source, "tiny", fixed_size=True)(image)["map"] for source in (tmp_path / "tiny é.onnx", tiny())
    ]
    assert (outputs[0] == outputs[1]).all()


def test_openvino_files_are_read(network, tmp_path):
    openvino.save_model(openvino.Core().read_model(tiny()), tmp_path / "tiny.xml", compress_to_fp16=False)
    image = noise(2, 3, 8, 8)
    own = network("openvino", tmp_path / "tiny.xml", "tiny", fixed_size=True)(image)
    assert (own["map"] == network("openvino", tiny(), "tiny", fixed_size=True)(image)["map"]).all()
    with pytest.raises(ModelError, match="tiny: ONNX Runtime cannot load it"):
        network("onnxruntime", tmp_path / "tiny.xml", "tiny", fixed_size=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("fixed_size", [True, False])
@pytest.mark.parametrize(
    "data",
    [b"", b"no network at all", tiny()[:60], tiny()[:-20], tiny(kind="Unheard"), tiny(shape=[1, 3])],
    ids=["empty", "text", "head", "truncated", "unknown layer", "no image"],
)
def test_a_broken_file_is_refused(network, runtime, fixed_size, data, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(data)
    for source in (data, tmp_path / "broken.onnx"):
        with pytest.raises(ModelError, match=r"broken\.onnx: (OpenVINO|ONNX Runtime) cannot load it \(.+\)"):
            network(runtime, source, "broken.onnx", fixed_size=fixed_size)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_file_is_refused(network, runtime, tmp_path):
    with pytest.raises(ModelError, match="absent: (OpenVINO|ONNX Runtime) cannot load it"):
        network(runtime, tmp_path / "absent.onnx", "absent", fixed_size=True)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_a_runtime_the_extra_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r'pip install "visavis\[face\]"'):
        Network(tiny(), "tiny", fixed_size=True)


def test_bfloat16_is_near_float32(network):
    """Where the CPU has no bfloat16 the two are equal."""
    image = noise(4, 3, 8, 8)
    exact, near = (
        network("openvino", tiny(), "tiny", fixed_size=True, precision=precision)(image)["mean"]
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(near, exact, rtol=2**-6, atol=2.0)


# The packs: float32 in two runtimes differs by the order of sums only.


def assert_detectors_agree(network, path):
    by_openvino, by_onnxruntime = (network(name, path, path.name, fixed_size=False) for name in RUNTIMES)
    for shape in ((1, 3, 64, 64), (1, 3, 128, 192), (2, 3, 320, 64), (1, 3, 640, 640), (1, 3, 384, 1024)):
        image = noise(*shape)
        outputs = by_openvino(image)  # by their names, and by others that OpenVINO gives them
        for name, expected in by_onnxruntime(image).items():
            assert outputs[name].shape == expected.shape
            np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=2e-4)


def test_centerface_in_both_runtimes(network, default_pack):
    assert_detectors_agree(network, pull(default_pack.detector))


def test_yunet_in_both_runtimes(network, fast_pack):
    assert_detectors_agree(network, pull(fast_pack.detector))


def cosines(first, second):
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def assert_embedders_agree(network, source, side):
    images = noise(3, 3, side, side)
    exact, other, near = (
        next(iter(network(runtime, source, "embedder", fixed_size=True, **options)(images).values())).reshape(3, -1)
        for runtime, options in (
            ("openvino", {}),
            ("onnxruntime", {}),
            ("openvino", {"precision": "bfloat16"}),
        )
    )
    np.testing.assert_allclose(exact, other, rtol=0, atol=1e-4 * np.abs(other).max())
    assert cosines(exact, near).min() > 0.99


def test_dlib_in_both_runtimes_and_in_bfloat16(network, default_pack):
    source = dlib_format.to_onnx(dlib_format.read(pull(default_pack.embedder))).SerializeToString()
    assert_embedders_agree(network, source, 150)


def test_retail_0095_in_both_runtimes_and_in_bfloat16(network, fast_pack):
    assert_embedders_agree(network, pull(fast_pack.embedder), 128)


def test_the_first_uses_of_networks_take_turns():
    def load():
        return Network(tiny(), "tiny", fixed_size=True)

    used, fresh = load(), load()
    batch = noise(1, 3, 8, 8)
    used(batch)
    with ThreadPoolExecutor(3) as pool:
        with runtime._FIRST_USE:
            waiting = [pool.submit(fresh, batch), pool.submit(load)]
            assert pool.submit(used, batch).result(60)  # waits for nothing
            assert not wait(waiting, timeout=0.2).done
        assert all(one.result(60) for one in waiting)
