"""What an adopter writes, for `make types`: it is checked and never run.

A right line that is refused fails; so does a wrong one that is taken, whose
`type: ignore` is then unused.
"""

import pathlib
from typing import Any

from typing_extensions import assert_type

import lbcheck
from lbcheck import schedules
from lbcheck import verdict
from lbcheck.comparison.compare import Comparison
from lbcheck.optimizers.audit import Audit
from lbcheck.schedules.base import Schedule


def build_model(units: int = 3) -> Any:
    return units


def compares(arrays: Any) -> None:
    mine = lbcheck.Arm("mine", "lars", fallback="momentum", momentum=0.9)
    found = lbcheck.compare(
        build_model,
        (arrays, arrays),
        (arrays, arrays),
        batch_size=512,
        steps=100,
        arms=["nesterov", mine],
        margin=0.01,
    )
    assert_type(found, Comparison)
    assert_type(found.verdict, verdict.Verdict)
    assert_type(found.verdict.answer, str)
    assert_type(found.verdict.more_seeds, int | None)
    assert_type(found.report_path, pathlib.Path)
    assert_type(found.table(), str)
    assert_type(found.to_json(), str)
    Comparison(found.report_path.parent)

    lbcheck.compare(build_model, arrays, arrays, 512, 100)  # type: ignore[call-arg]
    lbcheck.compare(build_model, arrays, arrays, batch_size=512)  # type: ignore[call-arg]
    lbcheck.compare("model", arrays, arrays, batch_size=1, steps=1)  # type: ignore[arg-type]
    lbcheck.compare(build_model, arrays, arrays, batch_size=1, steps="1")  # type: ignore[arg-type]
    lbcheck.compare(build_model, 1, 2, batch_size=1, steps=1, arms=[1])  # type: ignore[list-item]
    lbcheck.Arm(1, "lars")  # type: ignore[arg-type]
    lbcheck.Arm("mine", optimizer=1)  # type: ignore[arg-type]
    lbcheck.Arm("mine", "lars", layer_wise="yes")  # type: ignore[arg-type]


def describes_a_workload(arrays: Any) -> lbcheck.Workload:
    made = lbcheck.Workload(build_model, arrays, arrays, 512, steps=100)
    assert_type(made.steps, int)
    assert_type(made.metric, str | None)
    assert_type(made.model_arguments, tuple[str, ...])
    assert_type(made._replace(steps=10), lbcheck.Workload)

    lbcheck.Workload(build_model, arrays, arrays, "512", 100)  # type: ignore[arg-type]
    lbcheck.Workload(build_model, arrays, arrays, 512)  # type: ignore[call-arg]
    lbcheck.Workload(build_model, arrays, arrays, 512, 100, mode=1)  # type: ignore[arg-type]
    return made


def audits(model: Any) -> None:
    found = lbcheck.audit(model)
    assert_type(found, Audit)
    assert_type(found.findings, tuple[str, ...])
    assert_type(found.rows[0].path, str)
    assert_type(lbcheck.BIAS_AND_NORM, tuple[str, str])


def takes_rates(steps: Any) -> None:
    linear = schedules.Linear(1.0, total_steps=100)
    warm = schedules.Warmup(linear, warmup_steps=10)
    assert_type(warm(3), float)
    assert_type(warm(steps), Any)
    assert_type(warm.get_config(), dict[str, Any])
    assert_type(schedules.deserialize(schedules.serialize(warm)), Schedule)
    assert_type(schedules.FAMILIES["Linear"], type[Schedule])
    assert_type(schedules.linear_rule(0.1, 256, 8192), float)
    assert_type(schedules.square_root_rule(0.1, 256, 8192), float)
    assert_type(schedules.epochs_to_steps(90, 8192, rule="ceil"), int)
    for rule in (
        schedules.goyal_imagenet,
        schedules.lamb_bert,
        schedules.lamb_imagenet,
    ):
        assert_type(rule(8192), schedules.Settings)
    assert_type(schedules.lamb_bert(512).peak_rate, float)

    schedules.Warmup(0.1, 10)  # type: ignore[arg-type]
    schedules.Linear(1.0)  # type: ignore[call-arg]
    schedules.linear_rule("0.1", 256, 8192)  # type: ignore[arg-type]
    schedules.lamb_bert(0.5)  # type: ignore[arg-type]


def examines(schedule: Any) -> None:
    found = schedules.examine(schedule, 100, warmup_steps=10)
    assert_type(found, schedules.Examination)
    assert_type(found.errors, tuple[schedules.Finding, ...])
    assert_type(found.errors[0].step, int)
    assert_type(found.to_json(), str)
    found.save_figure(pathlib.Path("figure.png"))

    schedules.examine(schedule, "100")  # type: ignore[arg-type]
    schedules.examine(schedule, 100, None, None, 10)  # type: ignore[call-arg]
    found.save_figure(3)  # type: ignore[arg-type]


def judges(study: dict[str, Any], records: list[dict[str, Any]]) -> None:
    runs: dict[str, list[float | None]] = {"lars": [0.9, None]}
    judged = verdict.compare_arms(runs, ["lars"], margin=0.01)
    assert_type(judged, verdict.Verdict)
    assert_type(judged.pairs, tuple[verdict.PairVerdict, ...])
    assert_type(judged.arms, tuple[verdict.ArmSummary, ...])
    assert_type(judged.pairs[0].difference, float | None)
    assert_type(judged.to_dict(), dict[str, Any])
    assert_type(verdict.decide(study, records), verdict.Verdict)
    medians = {"LARS": {"validation": 75.9}}
    assert_type(verdict.from_summaries(medians, ["LARS"], 50), verdict.Verdict)

    verdict.compare_arms([0.9], ["lars"])  # type: ignore[arg-type]
    verdict.compare_arms(runs, ["lars"], target="0.9")  # type: ignore[arg-type]
    verdict.from_summaries(medians, ["LARS"], "50")  # type: ignore[arg-type]
    verdict.decide(study, study)  # type: ignore[arg-type]
