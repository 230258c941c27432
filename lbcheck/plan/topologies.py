"""The machines that a run can be planned on."""

import os
import re
import time
from typing import NamedTuple

_GIB = 2**30
_TERA = 1e12


class Topology(NamedTuple):
    """A machine, or several that train together.

    Attributes:
        name: As it was asked for, such as "v3-128".
        title: In words.
        replicas: Devices that tf.distribute trains on, each with a copy of
            the weights.
        chips: What is paid for.
        hosts: Machines with an operating system of their own.
        memory: Bytes of one replica.
        peak: {None or the name of --mixed_precision: FLOP/s of one replica},
            as the maker gives it; of the CPU as measured.
        compiled: Whether XLA compiles the step there.
        accelerator: "tpu", "gpu" or "cpu".
    """

    name: str
    title: str
    replicas: int
    chips: int
    hosts: int
    memory: int
    peak: dict[str | None, float]
    compiled: bool
    accelerator: str


class _Tpu(NamedTuple):
    """A generation of TPUs; `peak` and `gib` are those of a chip.

    The number in a slice's name counts `counted` of a chip, TPUStrategy sees
    `replicas` of it.
    """

    counted: int
    replicas: int
    peak: float
    gib: int
    chips_per_host: int
    chips_of_one_host: int
    sizes: tuple[int, ...] | range


_V5E = _Tpu(1, 1, 197, 16, 4, 8, (1, 4, 8, 16, 32, 64, 128, 256))
_TPUS = {
    "v2": _Tpu(2, 2, 45, 16, 4, 4, (8, 32, 128, 256, 512)),
    "v3": _Tpu(2, 2, 123, 32, 4, 4, (8, 32, 64, 128, 256, 512, 1024, 2048)),
    "v4": _Tpu(2, 1, 275, 32, 4, 4, range(8, 8193, 8)),
    "v5e": _V5E,
    "v5litepod": _V5E,  # as gcloud calls it
    "v5p": _Tpu(2, 1, 459, 95, 4, 4, range(8, 12289, 8)),
    "v6e": _Tpu(1, 1, 918, 32, 4, 8, (1, 4, 8, 16, 32, 64, 128, 256)),
}
"""Google Cloud, "TPU system architecture" and the pages "TPU v2" to "TPU v6e"
(cloud.google.com/tpu/docs): TFLOP/s in bfloat16, in which the matrix units also
multiply float32, and GiB. From v4 on the two cores of a chip act as one."""

_GPUS = {
    "A100": (80, {None: 156, "bfloat16": 312, "float16": 312}),
    "H100": (80, {None: 495, "bfloat16": 989, "float16": 989}),
    "H200": (140, {None: 495, "bfloat16": 989, "float16": 989}),
}
"""{name: (GiB, TFLOP/s)}: NVIDIA's data sheets of the SXM modules, without
sparsity; float32 is TF32, TensorFlow's default there."""

_GPUS_PER_HOST = 8

KNOWN = (
    *(f"{name}-N" for name in _TPUS),
    *(f"Nx{name}" for name in _GPUS),
    "cpu",
)


def find(name: str) -> Topology:
    """The topology of a name.

    Args:
        name: A TPU slice as Google Cloud names it, such as "v3-128"; a number
            of GPUs, such as "8xH200"; or "cpu", this machine.

    Raises:
        ValueError: There is none; lists what is known.

    Example:
        >>> find("v3-128").replicas, find("v3-128").hosts, find("v4-8").chips
        (128, 16, 4)
    """
    if name == "cpu":
        return _this_machine()
    tpu = re.fullmatch(r"(v\d\w*)-(\d+)", name)
    gpu = re.fullmatch(r"(\d+)x(\w+)", name)
    if tpu and tpu[1] in _TPUS:
        return _slice(name, tpu[1], int(tpu[2]))
    if gpu and gpu[2] in _GPUS and int(gpu[1]):
        return _gpus(name, gpu[2], int(gpu[1]))
    raise ValueError(
        f"unknown topology {name!r}; known are {', '.join(KNOWN)}, with N a "
        "number."
    )


def _slice(name, generation, number):
    tpu = _TPUS[generation]
    if number not in tpu.sizes:
        sizes = tpu.sizes
        expected = (
            f"a multiple of {sizes.step} up to {sizes[-1]:,}"
            if isinstance(sizes, range)
            else f"one of {', '.join(map(str, sizes))}"
        )
        raise ValueError(
            f"topology {name!r}: there is no such slice of TPU {generation}; "
            f"expected {generation}-N with N {expected}."
        )
    chips = number // tpu.counted
    one_host = chips <= tpu.chips_of_one_host
    flops = tpu.peak * _TERA / tpu.replicas
    return Topology(
        name=name,
        title=f"TPU {generation}, {counted(chips, 'chip')}",
        replicas=chips * tpu.replicas,
        chips=chips,
        hosts=1 if one_host else chips // tpu.chips_per_host,
        memory=tpu.gib * _GIB // tpu.replicas,
        peak={None: flops, "bfloat16": flops},
        compiled=True,
        accelerator="tpu",
    )


def _gpus(name, kind, number):
    gib, peak = _GPUS[kind]
    return Topology(
        name=name,
        title=f"NVIDIA {kind}, {counted(number, 'GPU')}",
        replicas=number,
        chips=number,
        hosts=-(-number // _GPUS_PER_HOST),
        memory=gib * _GIB,
        peak={kind: flops * _TERA for kind, flops in peak.items()},
        compiled=False,
        accelerator="gpu",
    )


def _this_machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flops = measured_peak()
    return Topology(
        name="cpu",
        title=f"this machine, {counted(os.cpu_count() or 1, 'core')}",
        replicas=1,
        chips=1,
        hosts=1,
        memory=memory,
        peak=dict.fromkeys((None, "bfloat16", "float16"), flops),
        compiled=False,
        accelerator="cpu",
    )


def measured_peak(size: int = 1024, times: int = 5) -> float:
    """FLOP/s of NumPy's fastest product of two float32 matrices here."""
    import numpy as np

    matrix = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def counted(number: int, thing: str) -> str:
    """The number of things.

    >>> counted(1, "chip"), counted(1024, "chip")
    ('1 chip', '1,024 chips')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
