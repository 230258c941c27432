"""NumPy's .npz files, read so that a damaged one costs nothing.

`numpy.load` allocates what an array's header promises before it reads.
"""

import math
import zipfile

import numpy as np

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path) -> dict[str, np.ndarray]:
    """All arrays of a file, read-only.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, or holds Python objects, which are never
            unpickled; names the file.

    Example: `npz.read("cifar10_jpeg.npz")["test_labels"]`
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as stored:
                return {
                    member.filename.removesuffix(".npy"): _array(stored, member)
                    for member in stored.infolist()
                }
        except Exception as error:  # NumPy's tokenizer alone raises five
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{path}: no whole .npz file: {what!a}.") from (
                error
            )


def _array(stored, member):
    with stored.open(member) as file:
        version = np.lib.format.read_magic(file)
        shape, by_column, dtype = _HEADERS[version](file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if size != member.file_size - file.tell():
            raise ValueError(f"{member.filename} is cut short")
        content = file.read()
        if len(content) != size or file.read(1):
            raise ValueError(f"{member.filename} is cut short")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape, order="F" if by_column else "C")
