"""The table of machines."""

import os

import pytest

from lbcheck.plan import page
from lbcheck.plan import topologies

GIB = 2**30


@pytest.mark.parametrize(
    "name, replicas, chips, hosts, gib, tera",
    [
        ("v2-8", 8, 4, 1, 8, 22.5),
        ("v3-8", 8, 4, 1, 16, 61.5),
        ("v3-128", 128, 64, 16, 16, 61.5),
        ("v3-2048", 2048, 1024, 256, 16, 61.5),
        ("v4-8", 4, 4, 1, 32, 275),
        ("v4-32", 16, 16, 4, 32, 275),
        ("v5e-8", 8, 8, 1, 16, 197),
        ("v5e-256", 256, 256, 64, 16, 197),
        ("v5litepod-16", 16, 16, 4, 16, 197),
        ("v5p-16", 8, 8, 2, 95, 459),
        ("v6e-1", 1, 1, 1, 32, 918),
        ("1xA100", 1, 1, 1, 80, 312),
        ("8xH200", 8, 8, 1, 140, 989),
        ("16xH100", 16, 16, 2, 80, 989),
    ],
)
def test_what_a_name_means(name, replicas, chips, hosts, gib, tera):
    found = topologies.find(name)
    assert found.name == name
    assert (found.replicas, found.chips, found.hosts) == (
        replicas,
        chips,
        hosts,
    )
    assert found.memory == gib * GIB
    assert found.peak["bfloat16"] == tera * 1e12


def test_float32_is_multiplied_in_bfloat16_on_a_tpu_and_in_tf32_on_a_gpu():
    assert topologies.find("v3-8").peak[None] == 61.5e12
    assert topologies.find("8xH200").peak[None] == 495e12
    assert "float16" not in topologies.find("v3-8").peak


def test_this_machine():
    found = topologies.find("cpu")
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert found.memory == total and found.replicas == found.hosts == 1
    assert found.title.startswith(f"this machine, {os.cpu_count()} core")
    assert 1e8 < found.peak[None] < 1e14


@pytest.mark.parametrize(
    "name",
    ["v7-8", "v3", "v3-", "8xV100", "0xH200", "xH200", "gpu", "", "V3-8"],
)
def test_an_unknown_one_is_told_what_is_known(name):
    with pytest.raises(ValueError) as refused:
        topologies.find(name)
    for known in (repr(name), "v3-N", "v5e-N", "NxH200", "cpu"):
        assert known in str(refused.value)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("v3-16", "8, 32, 64"),
        ("v5e-3", "1, 4, 8"),
        ("v4-12", "multiple of 8 up to 8,192"),
        ("v5p-0", "multiple of 8 up to 12,288"),
    ],
)
def test_there_are_no_other_slices(name, expected):
    with pytest.raises(ValueError, match=expected):
        topologies.find(name)


def test_how_it_is_started():
    def lines(name):
        return " ".join(page.commands(topologies.find(name), "resnet.train"))

    assert "--distribution=tpu --tpu=local" in lines("v3-8")
    pod = lines("v3-128")
    assert "worker 0 of the 16 hosts" in pod and "--tpu=NAME_OF_TPU" in pod
    assert "TF_CONFIG" in lines("16xH100")
    assert lines("8xH200").endswith("--flagfile=FILE")  # as FILE says
