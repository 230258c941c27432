"""A study's folder without any training: what the report is tested on."""

import json
import pathlib

import numpy as np

ARMS = {
    # optimizer, layer-wise, peak rates searched, offset of the metric
    "nesterov": ("nesterov", False, (0.01, 10.0), 0.0),
    "lars": ("lars", True, (0.1, 100.0), 0.0005),
    "adamw": ("adamw", False, (1e-4, 0.1), -0.001),
    "lamb": ("lamb", True, (1e-3, 1.0), -0.0005),
}
LAYERS = (
    "stem/conv/kernel",
    "stem/norm/gamma",
    "block/conv/kernel",
    "block/norm/gamma",
    "head/dense/kernel",
    "head/dense/bias",
)
STEPS = 100


def make_study(arms=tuple(ARMS), trials=20, seeds=20, **changes):
    """study.json as a dict."""
    return {
        "format": 1,
        "name": "digits",
        "lbcheck": "0.1.0",
        "command": ["/opt/bin/lbcheck", "compare", "--flagfile=quick.flags"],
        "flagfile": "--workload=resnet.workloads:digits\n--seeds=20\n",
        "workload": "resnet.workloads:digits",
        "facts": {
            "keras": "tf_keras",
            "backend": "tensorflow",
            "parameters": 77_850,
            "num_train": 1437,
            "num_validation": 360,
            "metric": "accuracy",
            "mode": "max",
            "model": [[path, [3, 3]] for path in LAYERS],
            "data": "a1b2c3",
        },
        "batch_size": 512,
        "steps": STEPS,
        "seed": 0,
        "metric": {"name": "accuracy", "mode": "max"},
        "selection": "validation",
        "margin": 0.005,
        "target": 0.965,
        "trials": trials,
        "refined_trials": 0,
        "seeds": seeds,
        "arms": {name: _make_arm(name) for name in arms},
        "environment": {
            "python": "3.11.2",
            "tensorflow": "2.20.0",
            "platform": "Linux",
            "devices": ["CPU:0"],
        },
    } | changes


def make_records(study, seed=0):
    """The records of a study that is done, in canonical order."""
    random = np.random.default_rng([seed, study["trials"]])
    records = []
    for arm in study["arms"]:
        search = [
            _search(study, arm, index, random)
            for index in range(study["trials"])
        ]
        records += search
        feasible = [r for r in search if r["status"] == "finished"]
        if not feasible:
            continue
        best = max(
            feasible, key=lambda r: r["metrics"]["validation"]["accuracy"]
        )
        records += [
            _confirm(study, arm, index, best["hyperparameters"], random)
            for index in range(study["seeds"])
        ]
    return records


def write(folder, study, records):
    """Writes study.json and trials.jsonl; returns the folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study, indent=2))
    (folder / "trials.jsonl").write_text(
        "".join(json.dumps(r, sort_keys=True) + "\n" for r in records)
    )
    return folder


def _make_arm(name):
    optimizer, layer_wise, rates, _ = ARMS.get(name, ARMS["nesterov"])
    decay = "l2" if optimizer == "nesterov" else "weight_decay"
    rows = [
        {
            "variable": path,
            "shape": [3, 3],
            "decay": path.endswith("kernel"),
            "adapt": layer_wise and path.endswith("kernel"),
            "rule": optimizer.upper(),
        }
        for path in LAYERS
    ]
    return {
        "optimizer": optimizer,
        "fixed": {"decay_power": 2.0},
        "fallback": None,
        "layer_wise": layer_wise,
        "schedule": "warmup_polynomial",
        "space": {
            "source": "made up",
            "points": "halton",
            "parameters": {
                "learning_rate": {
                    "min": rates[0],
                    "max": rates[1],
                    "scale": "log",
                },
                decay: {"min": 1e-6, "max": 1e-2, "scale": "log"},
                "warmup_steps": {
                    "min": 0.0,
                    "max": 0.5,
                    "scale": "linear",
                    "of": "steps",
                },
                "epsilon": {"value": 1e-7},
            },
        },
        "audit": rows,
    }


def _task(arm, stage, index, seed, hyperparameters):
    return {
        "arm": arm,
        "stage": stage,
        "index": index,
        "seed": seed,
        "hyperparameters": hyperparameters,
    }


def _search(study, arm, index, random):
    _, _, (low, high), offset = ARMS.get(arm, ARMS["nesterov"])
    decay = "weight_decay"
    if "l2" in study["arms"][arm]["space"]["parameters"]:
        decay = "l2"
    position, other = random.random(2)
    hyperparameters = {
        "learning_rate": float(low * (high / low) ** position),
        decay: float(1e-6 * 1e4**other),
        "warmup_steps": int(random.integers(0, STEPS // 2)),
        "epsilon": 1e-7,
    }
    task = _task(arm, "broad", index, study["seed"], hyperparameters)
    if position > 0.9:
        return task | _diverged(random)
    accuracy = 0.96 + offset - 1.5 * (position - 0.6) ** 2 - 0.05 * other**2
    return task | _finished(study, accuracy, random, curve=False)


def _confirm(study, arm, index, hyperparameters, random):
    task = _task(
        arm, "confirm", index, study["seed"] + 1 + index, hyperparameters
    )
    if index == 3 and arm == "lamb":
        return task | _diverged(random)
    offset = ARMS.get(arm, ARMS["nesterov"])[3]
    record = task | _finished(study, 0.966 + offset, random, curve=True)
    if index == 0:
        record["diagnostics"] = _diagnostics(arm, random)
        record["schedule"] = _schedule(hyperparameters)
    return record


def _schedule(hyperparameters):
    """Linear warm-up and quadratic decay."""
    peak = hyperparameters["learning_rate"]
    warmup = hyperparameters["warmup_steps"]
    steps = list(range(STEPS))
    return {
        "steps": steps,
        "rates": [
            peak * step / warmup
            if step < warmup
            else peak * ((STEPS - step) / (STEPS - warmup)) ** 2
            for step in steps
        ],
        "findings": [],
    }


def _finished(study, accuracy, random, curve):
    accuracy = float(np.clip(accuracy + 0.002 * random.standard_normal(), 0, 1))
    training = float(
        np.clip(accuracy + 0.02 + 0.003 * random.standard_normal(), 0, 1)
    )
    points = range(10, STEPS + 1, 10) if curve else ()
    return {
        "status": "finished",
        "bad": None,
        "steps": STEPS,
        "examples": STEPS * study["batch_size"],
        "seconds": 0.5 + float(random.random()),
        "metrics": {
            "validation": {"accuracy": accuracy, "loss": 1 - accuracy},
            "training": {"accuracy": training, "loss": 1 - training},
        },
        "curve": [
            {
                "step": step,
                "validation": {"accuracy": accuracy * _rise(step)},
                "training": {"accuracy": training * _rise(step)},
            }
            for step in points
        ],
        "diagnostics": None,
    }


def _rise(step):
    return 1 - 0.6 * 0.95**step


def _diverged(random):
    step = int(random.integers(1, STEPS))
    return {
        "status": "diverged",
        "bad": {"step": step, "variable": LAYERS[0]},
        "steps": step,
        "examples": 512 * step,
        "seconds": 0.1,
        "metrics": None,
        "curve": [],
        "diagnostics": None,
    }


def _diagnostics(arm, random):
    steps = list(range(0, STEPS, 5))
    layer_wise = ARMS.get(arm, ARMS["nesterov"])[1]
    variables = []
    for number, path in enumerate(LAYERS):
        adapted = layer_wise and path.endswith("kernel")
        rate = [0.1 * (1 - step / STEPS) for step in steps]
        ratio = [
            0.01 * (number + 1) * (1 + step / STEPS) if adapted else 1.0
            for step in steps
        ]
        variables.append(
            {
                "path": path,
                "shape": [3, 3],
                "trust_ratio": ratio,
                "effective_rate": [a * b for a, b in zip(rate, ratio)],
                "relative_update": [
                    float(a * np.exp(random.normal(-3, 0.3))) for a in rate
                ],
            }
        )
    # A weight that is zero at first has no relative update.
    variables[-1]["relative_update"][0] = None
    return {"steps": steps, "variables": variables}
