"""TFRecord files of tf.train.Example, written without TensorFlow.

Whole batches become bytes at once. The features of a record stand in the
order of their names, so that equal numbers give equal files.

Source: the formats of protocol buffers (encoding of packed fields), of
tensorflow/core/example/example.proto and of TFRecord files (length, masked
CRC-32C of the length, data, masked CRC-32C of the data).
"""

import functools
import struct
from collections.abc import Iterator

import numpy as np

_INTEGERS, _FLOATS = 3, 2  # fields of tf.train.Feature


def frame(data: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def examples(features: dict[str, np.ndarray]) -> Iterator[bytes]:
    """Serialized tf.train.Examples, one for each row of the features.

    Args:
        features: {name: matrix}; whole numbers >= 0 become an Int64List,
            others a FloatList.
    """
    columns = []
    for name, matrix in sorted(features.items()):
        integers = matrix.dtype.kind in "iu"
        rows = _varints(matrix) if integers else _floats(matrix)
        header = functools.partial(
            _header, name, _INTEGERS if integers else _FLOATS
        )
        columns.append([header(len(row)) + row for row in rows])
    for entries in zip(*columns):
        body = b"".join(entries)
        yield b"\x0a" + _varint(len(body)) + body


def _checksum(data: bytes) -> bytes:
    import google_crc32c  # flags are checked without it

    crc = google_crc32c.value(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


@functools.lru_cache(maxsize=2**14)
def _header(name: str, kind: int, size: int) -> bytes:
    """All that stands before a packed list of `size` bytes in an Example."""
    values = b"\x0a" + _varint(size)
    feature = bytes((kind << 3 | 2,)) + _varint(len(values) + size) + values
    key = name.encode()
    entry = b"\x0a" + _varint(len(key)) + key
    entry += b"\x12" + _varint(len(feature) + size) + feature
    return b"\x0a" + _varint(len(entry) + size) + entry


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _floats(matrix: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(matrix, "<f4")]


def _varints(matrix: np.ndarray) -> list[bytes]:
    """Base-128 numbers of each row, end to end."""
    numbers = matrix.ravel()
    largest = int(numbers.max(initial=0))
    if largest < 128:
        return [row.tobytes() for row in matrix.astype(np.uint8)]
    bits = range(7, largest.bit_length(), 7)
    sizes = 1 + sum((numbers >= 1 << b).astype(np.int64) for b in bits)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    found = np.empty(ends[-1], np.uint8)
    for place in range(len(bits) + 1):
        here = sizes > place
        more = (sizes[here] > place + 1) * 128
        found[begins[here] + place] = numbers[here] >> 7 * place & 127 | more
    buffer = found.tobytes()
    bounds = [0, *ends.reshape(matrix.shape)[:, -1].tolist()]
    return [buffer[a:b] for a, b in zip(bounds, bounds[1:])]
