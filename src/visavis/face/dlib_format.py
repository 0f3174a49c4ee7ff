"""Reads dlib's ResNet face recogniser (`dlib_face_recognition_resnet_model_v1.dat`) without dlib.

The file is dlib's own serialization: first the versions of all nested layers from the loss inward, then each layer's
name, settings and weights from the input outward. Integers are a byte of length and sign, then little-endian digits;
tensors are a version, four lengths and float32 values.

The network is read into plain residual blocks, its input scaling and its affine layers folded into the convolutions,
and written as ONNX or as a torch module. Both take RGB crops [N, 3, 150, 150] in 0..255 and return embeddings [N, 128]
that are not yet of unit length. Where the two branches of a block differ in size, dlib's sum pads the smaller with
zeros at the end.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import ModelError

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["Block", "Convolution", "DlibResNet", "read", "to_onnx", "to_torch"]

Array = NDArray[np.float32]


class Convolution(NamedTuple):
    weight: Array  # [out, in, height, width]
    bias: Array  # [out]
    stride: int
    padding: int


class Block(NamedTuple):
    first: Convolution  # relu(first), then second, then the shortcut is added and relu applied
    second: Convolution
    pooled: bool  # the shortcut is a 2 x 2 average pool of stride 2


class DlibResNet(NamedTuple):
    stem: Convolution  # relu and a 3 x 3 maximum pool of stride 2 follow
    blocks: tuple[Block, ...]
    head: Array  # [features, 128], after the mean over all pixels


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ModelError(f"dlib file: expected {count} more bytes at offset {self.at}, got the end of the file")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        head = self.take(1)[0]
        magnitude = int.from_bytes(self.take(head & 0x0F), "little")
        return -magnitude if head & 0x80 else magnitude

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        return float(mantissa) * 2.0**exponent

    def text(self) -> str:
        return self.take(self.integer()).decode("ascii", "replace")

    def integers(self, count: int) -> list[int]:
        return [self.integer() for _ in range(count)]

    def tensor(self) -> Array:
        self.integer()  # version
        shape = self.integers(4)
        return np.frombuffer(self.take(4 * int(np.prod(shape))), "<f4").reshape(shape)

    def name(self, *expected: str) -> str:
        name = self.text()
        if name not in expected:
            raise ModelError(f"dlib file: expected layer {' or '.join(expected)} at offset {self.at}, got {name!r}")
        return name

    def state(self, *, innermost: bool = False) -> None:
        """Skip what training leaves behind a layer: three flags and its gradients."""
        self.take(3)
        for _ in range(3):
            self.tensor()
        if innermost:
            self.integer()

    def convolution(self, *, innermost: bool = False) -> Convolution:
        """A convolution and the affine layer behind it, as one."""
        self.name("con_4")
        parameters = self.tensor().ravel()
        _filters, _rows, _columns, stride, _stride_x, padding, _padding_x = self.integers(7)
        shape = self.integers(5)[1:]
        self.integers(5)  # the shape of the biases
        for _ in range(4):  # multipliers of learning rate and weight decay
            self.real()
        self.state(innermost=innermost)
        self.name("affine_")
        gain, shift = self.tensor().reshape(2, -1)
        self.integers(5 + 5 + 1)
        self.state()
        split = int(np.prod(shape))
        weight, bias = parameters[:split].reshape(shape), parameters[split:]
        return Convolution(weight * gain[:, None, None, None], bias * gain + shift, stride, padding)

    def relu(self) -> None:
        self.name("relu_")
        self.state()


def read(path: Path) -> DlibResNet:
    """Read dlib's .dat file.

    Raises:
        ModelError: the file is of another network, or damaged.

    Source: dlib.net, `dnn/core.h`, `dnn/layers.h` (the format); He et al., arXiv:1512.03385 (the network).
    """
    reader = _Reader(path.read_bytes())
    reader.at = reader.data.find(b"\x01\x15input_rgb_image_sized")
    if reader.at < 0:
        raise ModelError(f"{path.name}: expected dlib's ResNet face recogniser, got a file of another kind")
    try:
        return _network(reader)
    except (ValueError, IndexError, OverflowError) as error:  # lengths that do not fit one another
        raise ModelError(f"{path.name}: expected dlib's ResNet face recogniser, got damage ({error})") from error


def _network(reader: _Reader) -> DlibResNet:
    reader.text()
    mean = np.array([reader.real() for _ in range(3)], np.float32)
    reader.integers(2)  # 150 x 150
    stem = reader.convolution(innermost=True)
    # dlib subtracts the mean and divides by 256 first; the stem pads nothing, so its weights can do both.
    scaled = stem.weight / np.float32(256)
    stem = stem._replace(weight=scaled, bias=stem.bias - np.einsum("oihw,i->o", scaled, mean))
    reader.relu()
    reader.name("max_pool_2")
    reader.integers(6)
    reader.state()
    blocks = []
    while True:
        mark = reader.at
        if reader.name("con_4", "avg_pool_2", "fc_2") != "con_4":
            break
        reader.at = mark
        first = reader.convolution()
        reader.relu()
        second = reader.convolution()
        if pooled := reader.name("add_prev_", "avg_pool_2") == "avg_pool_2":
            reader.integers(6)
            reader.state()
            reader.name("add_prev_")
        reader.state()
        reader.relu()
        blocks.append(Block(first, second, pooled))
    reader.integers(6)  # the pool over all pixels
    reader.state()
    reader.name("fc_2")
    reader.integers(2)
    return DlibResNet(stem, tuple(blocks), reader.tensor()[:, :, 0, 0])


def to_onnx(network: DlibResNet) -> "onnx.ModelProto":
    """The network as ONNX: input `image` float32 [N, 3, 150, 150], output `embedding` float32 [N, 128]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights = [], []

    def constant(name: str, value: NDArray[np.generic]) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolve(name: str, layer: Convolution, source: str, size: int) -> tuple[str, int]:
        kernel = layer.weight.shape[2]
        constants = constant(f"{name}.weight", layer.weight), constant(f"{name}.bias", layer.bias)
        output = node("Conv", name, source, *constants, strides=[layer.stride] * 2, pads=[layer.padding] * 4)
        return output, (size + 2 * layer.padding - kernel) // layer.stride + 1

    def extend(name: str, source: str, channels: int, pixels: int) -> str:
        if channels == pixels == 0:
            return source
        pads = constant(f"{name}.pads", np.array([0, 0, 0, 0, 0, channels, pixels, pixels], np.int64))
        return node("Pad", name, source, pads)

    current, size = convolve("stem", network.stem, "image", 150)
    current = node("Relu", "stem.relu", current)
    current = node("MaxPool", "stem.pool", current, kernel_shape=[3, 3], strides=[2, 2])
    size = (size - 3) // 2 + 1
    for index, block in enumerate(network.blocks):
        name = f"block{index}"
        branch, branch_size = convolve(f"{name}.first", block.first, current, size)
        branch = node("Relu", f"{name}.first.relu", branch)
        branch, branch_size = convolve(f"{name}.second", block.second, branch, branch_size)
        shortcut, shortcut_size = current, size
        if block.pooled:
            shortcut = node("AveragePool", f"{name}.pool", current, kernel_shape=[2, 2], strides=[2, 2])
            shortcut_size = size // 2
        size = max(branch_size, shortcut_size)
        channels, earlier = len(block.second.weight), block.first.weight.shape[1]
        branch = extend(f"{name}.branch", branch, 0, size - branch_size)
        shortcut = extend(f"{name}.shortcut", shortcut, channels - earlier, size - shortcut_size)
        current = node("Relu", f"{name}.relu", node("Add", f"{name}.sum", branch, shortcut))
    current = node("Flatten", "features", node("GlobalAveragePool", "mean", current))
    node("MatMul", "embedding", current, constant("head.weight", network.head))
    graph = helper.make_graph(
        nodes,
        "dlib-resnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 150, 150])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", network.head.shape[1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model


def to_torch(network: DlibResNet) -> "torch.nn.Module":
    """The network as a torch module from [N, 3, 150, 150] to [N, 128], for training and for study."""
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import avg_pool2d, max_pool2d, pad, relu

    def convolution(layer: Convolution) -> nn.Conv2d:
        out, into, kernel, _ = layer.weight.shape
        module = nn.Conv2d(into, out, kernel, layer.stride, layer.padding)
        module.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
        return module

    class Residual(nn.Module):
        def __init__(self, block: Block) -> None:
            super().__init__()
            self.first, self.second = convolution(block.first), convolution(block.second)
            self.pooled = block.pooled

        def forward(self, image: Tensor) -> Tensor:
            branch = self.second(relu(self.first(image)))
            shortcut = avg_pool2d(image, 2) if self.pooled else image
            pixels = shortcut.shape[3] - branch.shape[3]
            channels = branch.shape[1] - shortcut.shape[1]
            return relu(pad(branch, (0, pixels, 0, pixels)) + pad(shortcut, (0, 0, 0, 0, 0, channels)))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = convolution(network.stem)
            self.blocks = nn.Sequential(*map(Residual, network.blocks))
            features, dim = network.head.shape
            self.head = nn.Linear(features, dim, bias=False)
            self.head.load_state_dict({"weight": torch.tensor(network.head.T)})

        def forward(self, image: Tensor) -> Tensor:
            features: Tensor = self.blocks(max_pool2d(relu(self.stem(image)), 3, 2))
            embedding: Tensor = self.head(features.mean((2, 3)))
            return embedding

    return ResNet()
