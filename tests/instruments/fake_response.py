"""A program whose score is a sum over its flags: it keeps a run's record.

python -m tests.instruments.fake_response --l2=1 --warmup=1 --train_steps=3 \
    --seed=1 --output_dir=FOLDER
"""

import json
import pathlib
import sys

EFFECTS = {"l2": 0.03, "warmup": 0.0, "nesterov": 0.02}

flags = dict(a.removeprefix("--").split("=") for a in sys.argv[1:])
folder = pathlib.Path(flags["output_dir"])
if "warmup" in flags and "schedule_end" not in flags:
    sys.exit("fake: --warmup needs --schedule_end.")
score = 0.5 + int(flags["seed"]) % 5 / 1e4
score += sum(v for name, v in EFFECTS.items() if flags.get(name) == "1")
folder.mkdir(parents=True)  # no run is made twice
steps = int(flags["train_steps"])
line = {"step": steps, "accuracy": score, "validation_accuracy": score}
line["validation_loss"] = 1 - score
for name, what in (
    ("measurements.jsonl", line),
    ("timing.jsonl", {"step": steps, "examples_per_second": 20.0}),
    ("status.json", {"status": "finished", "step": steps}),
):
    (folder / name).write_text(json.dumps(what) + "\n")
