"""One device against two replicas, and against two workers."""

import collections
import json
import socket
import tempfile
import unittest

import numpy as np

from tests import programs
from tests.optimizers import replica_worker
from tests.optimizers import trajectory

CLOSE = 1e-5


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(folder, **environment):
    """A worker process, not waited for."""
    return programs.Program(
        "tests.optimizers.replica_worker",
        [f"--result_folder={folder}"],
        environment={"CUDA_VISIBLE_DEVICES": "", **environment},
    )


def finish(process):
    texts = process.communicate(timeout=300)
    if process.returncode:
        raise AssertionError("".join(texts)[-3000:])


class DistributionTest(unittest.TestCase):
    """No TensorFlow here: devices are fixed once a process has started it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        finish(start(cls.folder.name))
        ports = free_port(), free_port()
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        workers = [
            start(
                cls.folder.name,
                TF_CONFIG=json.dumps(
                    {
                        "cluster": cluster,
                        "task": {"type": "worker", "index": index},
                    }
                ),
            )
            for index in range(2)
        ]
        for worker in workers:
            finish(worker)

    def read(self, keras, name):
        """{case: its arrays, in their order}."""
        found = collections.defaultdict(list)
        with np.load(f"{self.folder.name}/{keras}.{name}.npz") as arrays:
            for key, array in arrays.items():
                found[key.rpartition("/")[0]].append(array)
        return found

    def assert_same(self, keras, name):
        one, many = self.read(keras, "one"), self.read(keras, name)
        self.assertGreater(len(many), 4)
        start, _, _ = trajectory.problem(
            1, 1.0, dtype=np.float32, shapes=replica_worker.SHAPES
        )
        start = [np.ravel(weight) for weight in start]
        for case, weights in many.items():
            if case == "fit":
                for a, b in zip(one[case], weights):
                    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
                continue
            self.assertLess(
                trajectory.distance(weights[:4], one[case][:4], start),
                CLOSE,
                f"{keras} {case}",
            )
            for a, b in zip(one[case][4:], weights[4:]):  # trust ratios
                np.testing.assert_allclose(b, a, rtol=1e-5)

    def test_two_replicas_keras3(self):
        self.assert_same("keras3", "mirrored")

    def test_two_replicas_tf_keras(self):
        self.assert_same("tf_keras", "mirrored")

    def test_two_workers_tf_keras(self):
        self.assert_same("tf_keras", "workers")

    def test_clipping_changes_the_numbers(self):
        """So that the case above can fail."""
        found = self.read("keras3", "one")
        self.assertGreater(
            np.abs(
                np.subtract(found["LAMB"][1], found["LAMB clipped"][1])
            ).max(),
            1e-3,
        )


if __name__ == "__main__":
    unittest.main()
