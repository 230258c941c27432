"""What the doctor reads: columns of logs, whole tensors, exact factors."""

import fractions
import gzip
import json
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from lbcheck import schedules
from lbcheck.schedules.doctor import log_files
from lbcheck.schedules.doctor import sampling


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


def test_two_groups_that_diverge_together_are_one(tmp_path):
    text = "step,lr_0,lr_1\n0,0.3,0.3\n1,0.2,0.2\n2,0.1,0.1\n3,nan,nan\n"
    found = log_files.read(write(tmp_path, text))
    np.testing.assert_array_equal(found.rates, [0.3, 0.2, 0.1, math.nan])


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


class Untraceable(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Takes numbers only, as a schedule on NumPy or `math` does."""

    def __call__(self, step):
        return tf.constant(0.5 / math.sqrt(float(step) + 1.0), tf.float64)

    def get_config(self):
        return {}


def test_a_schedule_that_cannot_be_traced_leaves_the_process_as_it_was():
    """Strategies failed afterwards, "Caching devices is not yet supported"."""
    found = sampling.evaluator(Untraceable())(np.arange(9))
    np.testing.assert_allclose(found, 0.5 / np.sqrt(1 + np.arange(9)))
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        tf.Variable(1.0)


def test_keras_schedules_take_all_steps_at_once():
    cosine = tf.keras.optimizers.schedules.CosineDecay(0.5, 100)
    found = sampling.evaluator(cosine)(np.arange(100))
    exact = [0.25 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-7)


def rate(step):
    return 3e-3 * (step / 40 if step < 40 else (400 - step) / 360)


STEPS = range(0, 400, 4)


def lines(header, row):
    return header + "".join(row.format(t=t, r=rate(t)) for t in STEPS)


def entries(make):
    return "".join(json.dumps(make(t)) + "\n" for t in STEPS)


LOGGED = {
    "panel.csv": lines(
        '"Step","a lr run - lr-AdamW","a lr run - lr-AdamW__MIN"\n',
        '"{t}","{r}","{r}"\n',
    ),
    "history.csv": lines(
        "_runtime,_step,optim/learning_rate,train/global_step\n",
        "1.5,7,{r},{t}\n3.0,8,,{t}\n",
    ),
    "groups.csv": lines(
        "epoch,lr-SGD-momentum,lr-SGD/pg1,lr-SGD/pg2,step\n",
        "0,0.9,{r},{r},{t}\n,,,,{t}\n",
    ),
    "excel.csv": lines("\ufeffSchritt step;lr\r\n", "{t};{r:.9f}\r\n").replace(
        ".", ","
    ),
    "thousands.tsv": lines("step\tLearning Rate\n\n", '"{t:,}"\t{r:e}\n'),
    "numpy.txt": lines("# step lr\n", "{t:.18e} {r:.18e}\n"),
    "lr": lines("", "17000000{t:05} {r!r} {t}\n"),
    "mlflow.csv": lines(
        "run_id,key,value,step,timestamp\n",
        "a,loss,9,{t},1\na,train/lr,{r},{t},1\n",
    ),
    "trainer_state.json": json.dumps(
        {
            "best_metric": None,
            "log_history": [
                *(
                    {"epoch": t / 9, "learning_rate": rate(t), "step": t}
                    for t in STEPS
                ),
                {"step": 400, "train_loss": math.nan},
            ],
        },
        indent=2,
    ),
    "run.jsonl": entries(
        lambda t: {"iter": t, "optim": {"lr": [rate(t), rate(t)]}}
    )
    + '{"iter": 400, "op',
    "download.json": json.dumps([[1.7e9, t, rate(t)] for t in STEPS]),
}


def check(path, **named):
    found = log_files.read(path, **named)
    np.testing.assert_array_equal(found.steps, STEPS)
    np.testing.assert_allclose(
        found.rates, [rate(t) for t in STEPS], rtol=1e-5, atol=1e-9
    )
    assert not found.resumed and not found.epochs


@pytest.mark.parametrize("name", LOGGED)
def test_logs_of_loggers(tmp_path, name):
    check(write(tmp_path, LOGGED[name], name))
    packed = gzip.compress(LOGGED[name].encode("utf-16"))
    check(write(tmp_path, packed, f"{name}.gz"))


@pytest.mark.parametrize("wrap", ["", "lr_group/"])
def test_event_files_of_tensorboard(tmp_path, wrap):
    for part in (range(0, 200, 4), range(200, 400, 4)):
        with tf.summary.create_file_writer(str(tmp_path / "run")).as_default():
            for step in part:
                tf.summary.scalar("loss", 1.0, step)
                for name in ("lr", "lr_1")[: 1 + bool(wrap)]:
                    tf.summary.scalar(wrap + name, rate(step), step)
    check(tmp_path)
    for file in (tmp_path / "run").iterdir():
        assert "tfevents" in file.name
        assert len(log_files.read(file).steps) == 50


def test_epochs_become_steps(tmp_path):
    text = "epoch,learning_rate\n" + "".join(
        f"{e},{rate(40 * e)}\n" for e in range(10)
    )
    path = write(tmp_path, text)
    assert log_files.read(path).epochs
    assert schedules.examine(path, 10).errors == ()
    found = log_files.read(path, steps_per_epoch=40)
    assert list(found.steps) == [40 * e for e in range(10)]
    with pytest.raises(ValueError, match="counts epochs.*steps_per_epoch"):
        schedules.examine(path, 400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,lr\n0,0,003\n1,0,002\n", "line 2.*3 cells.*semicolons"),
        ("1,2,3\n2,3,4\n", "3 columns without names"),
        ("step,lr\n0,1\n,2\n3,4\n", "line 3.*no number in the column 'step'"),
        ("step,lr\n0,1_0\n", "line 2.*'1_0'"),
        ('{"lr": [1, 2]', "not JSON"),
        ("[1, 2, {}, true]", "entry 3.*True"),
        (b"PK\x03\x04\0\0", "no UTF-8 text"),
        ("\n\n# nothing\n", "no row of numbers"),
    ],
)
def test_other_logs_name_the_cure(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        log_files.read(write(tmp_path, text))


def test_a_column_is_named(tmp_path):
    text = "step,lr/0,lr/1\n" + "".join(
        f"{t},{2 * rate(t)},{rate(t)}\n" for t in STEPS
    )
    check(write(tmp_path, text), column="lr/1")
    with pytest.raises(ValueError, match="no column 'lr/2'.*'lr/0'"):
        log_files.read(write(tmp_path, text), column="lr/2")


class NoConfig(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a tutorial: tensors inside, no get_config."""

    def __call__(self, step):
        return tf.reshape(tf.math.rsqrt(tf.cast(step, "float32") + 4.0), (1,))


def odd_schedules():
    yield lambda step: [1.0 - float(step) / 50]
    yield lambda step: np.float16([1.0]) * (1.0 - step / 50)
    yield lambda step: fractions.Fraction(50 - step, 50)
    yield lambda step: 1.0 - tf.cast(step.numpy(), tf.float64) / 50
    yield tf.keras.optimizers.SGD(
        tf.keras.optimizers.schedules.PolynomialDecay(1.0, 50, 0.0)
    )
    yield (1.0 - step / 50 for step in range(50))
    yield lambda step: tf.cast(1.0 - step / 50, tf.bfloat16)


@pytest.mark.parametrize("index", range(7))
def test_any_callable_is_examined(index):
    schedule = list(odd_schedules())[index]
    found = schedules.examine(schedule, 50)
    np.testing.assert_allclose(found.rates, 1 - np.arange(50) / 50, atol=2e-3)


def test_a_keras_schedule_without_a_config():
    found = schedules.examine(NoConfig(), 60)
    np.testing.assert_allclose(
        found.rates, (np.arange(60) + 4.0) ** -0.5, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda epoch, lr: lr, "function of epoch, lr.*LearningRateScheduler"),
        (lambda step: sys.exit(1), "SystemExit at step 0"),
        (lambda step: 1j, "one number.*1j"),
        (tf.keras.optimizers.SGD(0.1), "SGD has a constant"),
        (NoConfig, "a class: call it first"),
        (["a", "b"], "a sequence of rates.*'a'"),
        ({0: 0.1, 1: 0.1, 2: 0.1, 3: 0.01}, "a sequence of rates.*3: 0.01"),
        ({0.1, 0.2, 0.3, 0.4}, "a sequence of rates"),
        (b"log.csv", "a sequence of rates.*log.csv"),
        (np.array(0.1), "a sequence of rates.*0.1"),
    ],
)
def test_what_is_no_schedule(schedule, message):
    with pytest.raises((TypeError, ValueError), match=message):
        schedules.examine(schedule, 50)


def test_a_run_too_long_to_look_at():
    with pytest.raises(ValueError, match="at most 5,000,000"):
        schedules.examine(schedules.Linear(1.0, 10**9), 10**9)


@pytest.mark.parametrize("every", [7, 45, 90, 130])
@pytest.mark.parametrize("part", [1.0, 0.6])
def test_a_peak_between_two_rows(tmp_path, every, part):
    def root(t):
        return 2e-3 * (t / 70 if t < 70 else math.sqrt(70 / t))

    rows = [f"{t},{part * root(t)!r}" for t in range(every, 3000, every)]
    path = write(tmp_path, "\n".join(["step,lr", *rows]))
    found = schedules.examine(path, 3000, peak_rate=2e-3, warmup_steps=70)
    codes = [finding.code for finding in found.errors]
    assert ("peak_low" in codes) == (part < 1)
    assert part < 1 or codes == []


@pytest.mark.parametrize("updates, every, warmup_epochs, leap", [
    (157, 100, 5, False),
    (98, 50, 5, False),
    (98, 20, 3, False),
    (391, 100, 10, False),
    (157, 100, 5, True),
])  # fmt: skip
def test_stairs_of_epochs_between_rows(
    tmp_path, updates, every, warmup_epochs, leap
):
    """A rate that is set once an epoch; and one whose warm-up leaps."""

    def stairs(t):
        epoch = t // updates
        if epoch < warmup_epochs:
            return (epoch + 1) / warmup_epochs * (0.04 if leap else 0.4)
        part = (epoch - warmup_epochs) / (90 - warmup_epochs)
        return 0.2 * (1 + math.cos(math.pi * part))

    steps = range(0, 90 * updates, every)
    rows = [f"{t},{stairs(t):.6g}" for t in steps]
    path = write(tmp_path, "\n".join(["step,lr", *rows]))
    found = schedules.examine(path, 90 * updates)
    codes = [finding.code for finding in found.errors]
    assert codes == (["jump"] if leap else [])


def test_a_leap_after_a_pause_is_no_stair(tmp_path):
    """A warm-up that holds 0, begins at a half, and leaps to its peak."""

    def rate(t):
        if t < 200:
            return 0.0 if t < 100 else 0.5 + 5e-4 * (t - 100)
        return 1 - (t - 200) / 2000

    rows = [f"{t},{rate(t):.8g}" for t in range(2000)]
    path = write(tmp_path, "\n".join(["step,lr", *rows]))
    found = schedules.examine(path, 2000)
    assert "jump" in [finding.code for finding in found.errors]


@pytest.mark.parametrize("every", [1, 10, 50])
@pytest.mark.parametrize("total", [1000, None])
def test_a_log_that_ends_with_the_rate_after_the_run(tmp_path, every, total):
    """Hugging Face's Trainer: the row of step k has the rate of t = k."""
    clean = schedules.Warmup(schedules.Linear(5e-5, 900), 100)
    rows = [
        {"learning_rate": clean(t), "step": t}
        for t in range(every, 1001, every)
    ]
    path = write(tmp_path, json.dumps({"log_history": rows}), "state.json")
    found = schedules.examine(path, total, peak_rate=5e-5, warmup_steps=100)
    assert (found.errors, found.total_steps) == ((), 1000)


def test_a_pause_in_a_rounded_log_is_no_jump(tmp_path):
    def inverse(t, drop=1.0):
        return 0.1 / (1 + 3 * t / 1304) * (drop if t > 650 else 1)

    steps = [t for t in range(1304) if not 653 <= t < 662]
    for drop, codes in ((1.0, []), (0.9, ["jump"])):
        rows = [f"{t},{inverse(t, drop):.2e}" for t in steps]
        path = write(tmp_path, "\n".join(["step,lr", *rows]))
        found = schedules.examine(path, 1304)
        assert [finding.code for finding in found.errors] == codes


@pytest.mark.parametrize("cycles, lost", [(3, False), (4, False), (4, True)])
def test_a_steep_foot_between_two_rows(tmp_path, cycles, lost):
    """Rounded to 0 from several units on; and one that is over too early."""

    def restarts(t):
        part = cycles * (t - 702) / (18465 - 702)
        return 6e-4 * (t / 702 if t < 702 else math.cos(part % 1 * 1.57) ** 2)

    end = 18000 if lost else 18465
    steps = [*range(184, 18465, 184), 18464]
    rows = [f"{t},{round(restarts(t) * (t < end), 6)!r}" for t in steps]
    path = write(tmp_path, "\n".join(["step,lr", *rows]))
    found = schedules.examine(path, 18465)
    codes = [finding.code for finding in found.errors]
    assert codes == (["ends_early"] if lost else [])
