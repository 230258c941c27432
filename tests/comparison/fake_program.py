"""A program that keeps the record of a run as ours do, and computes nothing.

python -m tests.comparison.fake_program --learning_rate=0.1 --train_steps=3 \
    --seed=1 --output_dir=FOLDER
"""

import json
import pathlib
import signal
import sys
import time

flags = dict(a.removeprefix("--").split("=") for a in sys.argv[1:])
folder = pathlib.Path(flags["output_dir"])
steps = int(flags.get("made", flags["train_steps"]))
rate = float(flags["learning_rate"])


def end(code, status, **details):
    (folder / "status.json").write_text(
        json.dumps({"status": status, "step": done, **details})
    )
    sys.exit(code)


if rate > 100:
    sys.exit("fake: learning_rate must be at most 100.")
folder.mkdir(parents=True, exist_ok=True)
(folder / "checkpoints").mkdir(exist_ok=True)
path = folder / "measurements.jsonl"
done = len(path.read_text().splitlines()) if path.exists() else 0
signal.signal(signal.SIGTERM, lambda *_: end(75, "interrupted"))
with (
    path.open("a") as measured,
    (folder / "timing.jsonl").open("a") as timing,
    (folder / "starts").open("a") as starts,
):
    starts.write(f"{done}\n")
    while done < steps:
        time.sleep(float(flags.get("pause", 0)))
        done += 1
        if rate > 10:
            end(
                3,
                "diverged",
                first_non_finite_step=done - 1,
                first_non_finite_variable="kernel",
            )
        score = 1 / (1 + abs(rate - 1)) - int(flags["seed"]) % 7 / 1e3
        line = {"step": done, "accuracy": score, "loss": 1.0}
        line["validation_accuracy"] = score - 0.1
        line |= json.loads(flags.get("line", "{}"))
        for file, what in (
            (measured, line),
            (timing, {"step": done, "examples_per_second": 20.0}),
        ):
            file.write(json.dumps(what) + "\n")
            file.flush()
if "answers" in flags:
    scores = {"f1": 100 * score, "exact_match": 50.0}
    (folder / "eval_results.json").write_text(json.dumps(scores))
end(0, "finished")
