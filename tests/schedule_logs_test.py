"""What the doctor reads: columns of logs, whole tensors, exact factors."""

import math

import numpy as np
import pytest
import tensorflow as tf

from lbcheck import schedules
from lbcheck.schedules import log_files
from lbcheck.schedules import sampling


def write(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Wall time,Step,Value", "1e9,{step},{rate}"),
        ("step,dropout_rate,learning_rate", "{step},0.3,{rate}"),
        ("step,error_rate,lr", "{step},0.5,{rate}"),
        ("steps_per_sec,lr,global_step", "7.5,{rate},{step}"),
        ("# a comment\niteration,train/lr", "{step},{rate}"),
        ("", "{step},{rate}"),
    ],
)
def test_columns_are_found_by_name(tmp_path, header, row):
    lines = [row.format(step=s, rate=0.1 * (9 - s)) for s in range(9)]
    path = write(tmp_path, "\n".join(filter(None, [header, *lines])))
    found = log_files.read(path)
    np.testing.assert_array_equal(found.steps, np.arange(9))
    np.testing.assert_allclose(found.rates, 0.1 * (9 - np.arange(9)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "step,lr_0,lr_1\n0,1,2\n1,1,1\n2,1,1\n3,1,1\n",
            "cannot tell.*lr_0.*lr_1",
        ),
        ("step,loss\n0,1\n1,1\n2,1\n", "learning_rate or lr"),
        (b"step,lr\n0,\xff\n", "log.csv.*UTF-8"),
    ],
)
def test_columns_that_cannot_be_told(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        log_files.read(write(tmp_path, text))


def test_bias_correction_in_float32():
    """57 units in the last place, with the logarithm taken in float32."""
    schedule = schedules.BiasCorrected(schedules.Constant(1.0), 0.9, 0.999)
    steps = np.arange(5000)
    exact = np.sqrt(1 - 0.999 ** (steps + 1.0)) / (1 - 0.9 ** (steps + 1.0))
    found = schedule(tf.constant(steps, tf.int64)).numpy()
    np.testing.assert_allclose(found, exact, rtol=4e-7)


class OneByOne(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Elementwise for one step only: a whole tensor gives other numbers."""

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        return 1.0 - step / (1.0 + tf.reduce_max(step))

    def get_config(self):
        return {}


def test_a_schedule_that_is_not_elementwise_is_asked_step_by_step():
    found = sampling.evaluator(OneByOne())(np.arange(50))
    np.testing.assert_allclose(found, 1.0 / (1.0 + np.arange(50)), rtol=1e-5)


def test_keras_schedules_take_all_steps_at_once():
    cosine = tf.keras.optimizers.schedules.CosineDecay(0.5, 100)
    found = sampling.evaluator(cosine)(np.arange(100))
    exact = [0.25 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-7)
