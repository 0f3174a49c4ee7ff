"""Reads a TensorFlow Lite file and runs it by torch in double precision: slow, short, and no kin of any runtime.

Only the operators of the network in test_liveness.py are there. Numbers of fields and operators are those of
tensorflow/lite/schema/schema.fbs.
"""

from pathlib import Path

import numpy as np
import torch
from flatbuffers import encode, number_types
from flatbuffers.table import Table
from numpy.typing import NDArray
from torch.nn import functional

__all__ = ["run"]

DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 6: np.bool_}


def run(path: Path, image: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """The outputs by name for one image, [1, height, width, 3]."""
    data = bytearray(path.read_bytes())
    model = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    codes = [max(_number(code, 0, "Int8"), _number(code, 3, "Int32")) for code in _tables(model, 1)]
    buffers = [_array(buffer, 0, np.uint8) for buffer in _tables(model, 4)]
    (graph,) = _tables(model, 2)
    tensors = list(_tables(graph, 0))
    values: dict[int, torch.Tensor] = {}
    for place, tensor in enumerate(tensors):
        constant = buffers[_number(tensor, 2, "Uint32")]
        if len(constant):
            shape = _array(tensor, 0, np.int32)
            array = constant.view(DTYPES[_number(tensor, 1, "Int8")]).reshape(shape)
            values[place] = torch.from_numpy(array.astype(np.float64) if array.dtype.kind == "f" else array.copy())
    values[int(_array(graph, 1, np.int32)[0])] = torch.from_numpy(image.astype(np.float64))
    for operator in _tables(graph, 3):
        code = codes[_number(operator, 0, "Uint32")]
        options = _table(operator, 4)
        inputs = [values[place] if place >= 0 else None for place in _array(operator, 1, np.int32).tolist()]
        (output,) = _array(operator, 2, np.int32).tolist()
        values[output] = _apply(code, options, *inputs)
    names = {place: tensors[place].String(tensors[place].Offset(10) + tensors[place].Pos).decode() for place in values}
    return {names[place]: values[place].numpy() for place in _array(graph, 2, np.int32).tolist()}


def _apply(code: int, options: Table | None, x: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
    match code:
        case 0:
            return _activated(x + rest[0], options, 0)
        case 2:
            return torch.cat([x, *rest], _number(options, 0, "Int32"))
        case 3:  # weights [out, height, width, in]
            size = rest[0].shape[1:3]
            padded = _padded(x, size, options)
            steps = _number(options, 2, "Int32"), _number(options, 1, "Int32")
            result = functional.conv2d(padded, rest[0].permute(0, 3, 1, 2), rest[1], stride=steps)
            return _activated(result.permute(0, 2, 3, 1), options, 3)
        case 1 | 17:
            size = _number(options, 4, "Int32"), _number(options, 3, "Int32")
            padded = _padded(x, size, options, fill=-torch.inf if code == 17 else 0)
            steps = _number(options, 2, "Int32"), _number(options, 1, "Int32")
            if code == 17:
                return functional.max_pool2d(padded, size, steps).permute(0, 2, 3, 1)
            inside = _padded(torch.ones_like(x), size, options)  # the mean is of what lies inside
            mean = functional.avg_pool2d(padded, size, steps) / functional.avg_pool2d(inside, size, steps)
            return mean.permute(0, 2, 3, 1)
        case 6:
            return x
        case 9:
            return _activated(functional.linear(x.reshape(-1, rest[0].shape[1]), rest[0], rest[1]), options, 0)
        case 18:
            return _activated(x * rest[0], options, 0)
        case 22:
            return x.reshape(rest[0].tolist())
        case 41:
            return _activated(x - rest[0], options, 0)
        case 45:
            return _strided_slice(x, options, *(part.tolist() for part in rest))
        case 53:
            return x.to(torch.float64)
        case 54:
            return torch.where(x >= 0, x, x * rest[0])
        case 58:
            return x < rest[0]
        case 62:
            return x >= rest[0]
        case 98:
            return torch.where(x >= 0, x, x * options.Get(number_types.Float32Flags, _offset(options, 0) + options.Pos))
    raise NotImplementedError(f"operator {code}")


def _padded(x: torch.Tensor, size: tuple[int, ...], options: Table, *, fill: float = 0) -> torch.Tensor:
    """[N, C, H, W], padded at the low and the high end as TensorFlow's SAME has it; VALID pads nothing."""
    x = x.permute(0, 3, 1, 2)
    if _number(options, 0, "Int8") == 1:
        return x
    pads: list[int] = []
    for axis, steps in ((3, _number(options, 1, "Int32")), (2, _number(options, 2, "Int32"))):
        length = x.shape[axis]
        total = max((-(-length // steps) - 1) * steps + size[axis - 2] - length, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=fill)


def _activated(x: torch.Tensor, options: Table | None, field: int) -> torch.Tensor:
    kind = _number(options, field, "Int8")
    assert kind in (0, 1), kind
    return x.clamp(min=0) if kind else x


def _strided_slice(x: torch.Tensor, options: Table, begin: list[int], end: list[int], steps: list[int]) -> torch.Tensor:
    masks = [_number(options, field, "Int32") for field in range(5)]
    assert masks[2] == 0
    picks: list[object] = []
    for axis, (low, high, step) in enumerate(zip(begin, end, steps, strict=True)):
        if masks[3] >> axis & 1:
            picks.append(None)
        elif masks[4] >> axis & 1:
            picks.append(low)
        else:
            picks.append(slice(None if masks[0] >> axis & 1 else low, None if masks[1] >> axis & 1 else high, step))
    return x[tuple(picks)]


def _offset(table: Table, field: int) -> int:
    return table.Offset(4 + 2 * field)


def _number(table: Table | None, field: int, kind: str) -> int:
    """0 where the field is left out, the default of all that is read here."""
    if table is None or not _offset(table, field):
        return 0
    return int(table.Get(getattr(number_types, f"{kind}Flags"), _offset(table, field) + table.Pos))


def _table(table: Table, field: int) -> Table | None:
    offset = _offset(table, field)
    return Table(table.Bytes, table.Indirect(offset + table.Pos)) if offset else None


def _tables(table: Table, field: int) -> list[Table]:
    offset = _offset(table, field)
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _array(table: Table, field: int, dtype: type) -> np.ndarray:
    offset = _offset(table, field)
    if not offset:
        return np.empty(0, dtype)
    size = np.dtype(dtype).itemsize
    start, length = table.Vector(offset), table.VectorLen(offset) * size
    return np.frombuffer(bytes(table.Bytes[start : start + length]), dtype)
