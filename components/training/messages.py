"""Values that workers send to each other, as bytes: JSON and the bytes of arrays. Nothing is pickled.

Reading a message can build plain data, numpy arrays and tensors, and can call no code. So a process that joins a run
uninvited can send wrong values at most. Types are preserved: a tuple arrives as a tuple and a key 1 as a number, so
that a value is the same on the worker that sends it and on all others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 8  # bytes
PLAIN = (type(None), bool, int, float, str)
SENDABLE = "None, bool, int, float, str, bytes, numpy arrays, tensors, and lists, tuples and dicts of them"


def encode_message(value: Any) -> bytes:
    """Return `value` as bytes; raise TypeError for an object of any other class than those of SENDABLE.

    Tensors are sent from the host's memory, without their strides, and arrive in the host's memory.
    """
    blobs: list[bytes] = []
    text = json.dumps(_describe(value, blobs), separators=(",", ":")).encode()
    lengths = [len(text), *map(len, blobs)]
    head = np.array([len(lengths), *lengths], dtype="<i8").tobytes()
    return b"".join([head, *(blob + bytes(-len(blob) % ALIGNMENT) for blob in (text, *blobs))])


def decode_message(message: bytes | bytearray | memoryview) -> Any:
    """Return the value of a message; bytes after its end are ignored. Raise ValueError if it is damaged."""
    view = memoryview(message).cast("B")
    try:
        (count,) = np.frombuffer(view, "<i8", 1).tolist()
        lengths = np.frombuffer(view, "<i8", count, 8).tolist()
        position = 8 * (1 + count)
        blobs = []
        for length in lengths:
            if length < 0 or position + length > len(view):
                raise ValueError("it is too short")
            blobs.append(view[position : position + length])
            position += length + -length % ALIGNMENT
        return _restore(json.loads(bytes(blobs[0])), blobs[1:])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise ValueError(f"a message of another worker cannot be read: {error}") from None


def _describe(value: Any, blobs: list[bytes]) -> Any:
    """Return JSON for `value` and append the bytes of its arrays to `blobs`.

    Everything but plain values and lists becomes {kind: content}.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is list:
        return [_describe(item, blobs) for item in value]
    if kind is tuple:
        return {"tuple": [_describe(item, blobs) for item in value]}
    if kind is dict:
        return {"dict": [[_describe(key, blobs), _describe(item, blobs)] for key, item in value.items()]}
    if kind is bytes:
        blobs.append(value)
        return {"bytes": len(blobs) - 1}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {"number": _describe(np.asarray(value), blobs)}
    if kind is np.ndarray and not value.dtype.hasobject and value.dtype.names is None:
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        blobs.append(value.tobytes(order))
        return {"array": [value.dtype.str, value.shape, order, len(blobs) - 1]}
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
        host = value.detach().cpu().contiguous()
        blobs.append(host.reshape(-1).view(torch.uint8).numpy().tobytes())
        return {"tensor": [str(host.dtype).removeprefix("torch."), tuple(host.shape), len(blobs) - 1]}
    raise TypeError(f"an object of {kind.__module__}.{kind.__qualname__} is not sent to other workers; send {SENDABLE}")


def _restore(description: Any, blobs: Sequence[memoryview]) -> Any:
    """Return the value that `_describe` described; arrays and tensors own their memory."""
    if isinstance(description, list):
        return [_restore(item, blobs) for item in description]
    if not isinstance(description, dict):
        return description
    ((kind, content),) = description.items()
    if kind == "tuple":
        return tuple(_restore(item, blobs) for item in content)
    if kind == "dict":
        return {_restore(key, blobs): _restore(item, blobs) for key, item in content}
    if kind == "bytes":
        return bytes(blobs[content])
    if kind == "number":
        return _restore(content, blobs)[()]
    if kind == "array":
        name, shape, order, index = content
        return np.frombuffer(blobs[index], np.dtype(name)).reshape(shape, order=order).copy(order)
    if kind == "tensor":
        name, shape, index = content
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{name} is not a data type")
        values = torch.empty(shape, dtype=dtype)
        values.view(-1).view(torch.uint8).copy_(torch.from_numpy(np.frombuffer(blobs[index], np.uint8).copy()))
        return values
    raise ValueError(f"{kind} is not a kind of value")
