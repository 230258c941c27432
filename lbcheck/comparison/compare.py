"""`lbcheck.compare`: arms compared on a model of yours, and the answer."""

import json
import os
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

from lbcheck import report
from lbcheck.study import study_folder
from lbcheck.support import text_table

if TYPE_CHECKING:
    from lbcheck.search.arm import Arm

DEFAULT_ARMS = ("nesterov", "lars", "adamw", "lamb")


class Comparison:
    """What a study found, read from its folder.

    Args:
        folder: Where `lbcheck compare` or `lbcheck.compare` wrote.
        news: Further information to print, such as which trials an earlier
            call ran.

    Attributes:
        verdict: Prints as the answer, such as "not needed" or "undecided (4
            more seeds)"; `verdict.sentence` is the first line of the report.
        records: One dict per trial, as in trials.jsonl.
        report_path: The report, an HTML file.
        news: As given.
    """

    def __init__(self, folder: str | os.PathLike[str], news: str | None = None):
        from lbcheck import verdict

        self._folder = study_folder.load(folder)
        self.news = news
        self.records = self._folder.records
        self.verdict = verdict.decide(*self._folder)
        self.report_path = pathlib.Path(folder) / report.PAGE

    def table(self) -> str:
        """Each arm's result, best hyperparameters and budget, as text."""
        from lbcheck.report import page_tables
        from lbcheck.report import results

        table = page_tables.arms(results.collect(self._folder))
        *columns, last = table.columns
        text = text_table.text_table(
            columns, [row[:-1] for row in table.rows], table.numeric
        )
        points = [f"  {row[0]}: {row[-1]}" for row in table.rows]
        return "\n".join([text, "", f"{last.capitalize()}:", *points])

    def _compiled(self):
        """That some arms' trials share no compiled step, and why."""
        facts = self._folder.study.get("facts", {})
        why = facts.get("compiled_for_each_trial")
        return why and f"A step was compiled for every trial of {why}."

    def to_json(self) -> str:
        """The verdict, what each arm reached and where the report is."""
        from lbcheck.report import results

        found = results.summary(results.collect(self._folder), self.report_path)
        return json.dumps(found | {"news": self.news}, indent=2)

    def __str__(self):
        parts = (
            self.verdict.sentence,
            self.news,
            self._compiled(),
            self.table(),
            str(self.report_path),
        )
        return "\n\n".join(part for part in parts if part)


def compare(
    build_model: Callable[..., Any],
    train: Any,
    validation: Any,
    *,
    batch_size: int,
    steps: int,
    arms: "Iterable[str | Arm]" = DEFAULT_ARMS,
    challengers: Collection[str] | None = None,
    baselines: Collection[str] | None = None,
    trials: int = 20,
    refined_trials: int = 0,
    seeds: int = 10,
    search_seeds: int = 1,
    feasible: bool = False,
    challenge_trials: int | None = None,
    searches: int = 1,
    control_batch_size: int | None = None,
    metric: str | None = None,
    mode: str | None = None,
    margin: float | None = None,
    target: float | None = None,
    selection: str = "validation",
    seed: int = 0,
    output_dir: str = "lbcheck_study",
    storage: str | None = None,
    threads: int | None = None,
    batched_trials: int = 1,
    loss: Any = None,
    metrics: Any = None,
    name: str | None = None,
    test: Any = None,
) -> Comparison:
    """Says whether LARS or LAMB, or another challenger, is needed for a model.

    Every arm is searched with the same number of trials, its best
    hyperparameters are run again with fresh seeds, and medians over the seeds
    are compared. The same call continues where it was stopped. The state of
    random number generators is left as it was.

    Args:
        build_model: Function that returns a new Keras model of either Keras;
            a compiled one keeps its loss and metrics. Hyperparameters that a
            search space calls as its arguments are passed to it.
        train: (x, y) or (x, y, sample_weight) with arrays, sparse matrices of
            SciPy, or lists or dicts of them; a tf.data.Dataset, PyDataset or
            loader that is batched as for `fit`; or a function of the seed or
            of nothing that gives one of these or a generator of batches. A
            dataset that shuffles gives every trial another order; made by a
            function of the seed, all arms get one.
        validation: The same, with an end; not a function of the seed.
        batch_size: Examples per update, at least 1.
        steps: Updates per trial, at least 1.
        arms: Names of built-in arms, JSON files of arms, and `lbcheck.Arm`s.
            One alone is searched and confirmed, without a verdict.
        challengers: Names of the arms that are asked whether they are
            needed. None: the layer-wise ones, or all but `baselines`.
        baselines: Names of the arms that they are compared with. None: all
            others. An arm of neither side is searched and shown, not judged.
        trials: Trials of each arm's broad search, at least 1.
        refined_trials: Further trials of each arm, in a refined search around
            the best one.
        seeds: Runs of each arm's best hyperparameters, each with a fresh
            seed; intervals need at least 6.
        search_seeds: Runs of every search trial, each with a seed of its own,
            whose median selects. With several there is no challenge.
        feasible: Whether `trials` counts those that do not diverge: each that
            does is replaced by a further point, until an arm has tried three
            times as many. There is no challenge then.
        challenge_trials: Further trials that an arm may get before an answer
            is given that goes against its side: "needed" is challenged by
            baselines with up to 28 times the trials, "not needed" by
            challengers with half as many again. None: as many as that takes;
            0: none, and the answer is more cautious.
        searches: Independent searches of every arm, each with points and
            seeds of its own. With several, 6 at least for an answer, a search
            counts once, by the mean of its seeds, of which 2 to 4 are then
            enough: the answer is on arms that are tuned with so many trials,
            and holds the luck of the search.
        control_batch_size: A small batch at which the best baseline is
            searched and confirmed as well, with as many examples, so that the
            report can say what the large batch costs here. None: none.
        metric: Name of the metric that trials are judged by; None for the
            first one that the model is compiled with, or "loss".
        mode: "max" or "min"; None to infer it from the metric's name.
        margin: Smallest difference of the metric that matters to you, above
            0. None: 0.005 of a fraction and 0.5 of a percentage, but at most
            a quarter of what the baseline's median leaves to gain; else 1 %
            of that median.
        target: Value of the metric to reach, or None.
        selection: "validation" or "training": the data whose metric selects
            an arm's best trial.
        seed: Seed of the search, the initial weights and the order of the
            data, at least 0.
        output_dir: Folder of the study and its report.
        storage: URL of a database that workers share; None: a file in
            `output_dir`.
        threads: Threads per worker, at least 1; bit-identical results need
            the same number. None: as many as this process uses. TensorFlow
            accepts another number before its first operation only.
        batched_trials: Trials of one arm that are trained at once, at least
            1, where memory allows; more than 1 is for Keras 3 on JAX.
        loss: Loss for `compile`, if build_model returns an uncompiled model;
            beside a compiled one it is refused.
        metrics: Metrics for `compile`, likewise.
        name: Name of the study in the report.
        test: Data like `validation` that nothing is selected by: the runs
            with fresh seeds are judged on them, and the intervals hold the
            choice of the examples as well. A number between 0 and 1 holds
            out that part of `validation`. None: they are judged on
            `validation`, whose luck the selection then favours.

    Returns:
        A `Comparison`.

    Raises:
        TypeError, ValueError: An argument cannot be used (raised before
            anything is written), or the folder or storage holds another study.
        FloatingPointError: Every trial of every arm diverged.
        lbcheck.support.errors.Unavailable: The storage, or another worker,
            is gone; the same call continues the study.

    Example:

        print(lbcheck.compare(build_model, (x, y), (x_test, y_test),
                              batch_size=1024, steps=200).verdict)

    Source: Nado et al. 2021, A Large Batch Optimizer Reality Check,
        Appendix B, for the protocol.
    """
    from lbcheck.search import arm
    from lbcheck.study.settings import Settings
    from lbcheck.trials.workload import Workload

    settings = Settings(
        trials=trials,
        refined_trials=refined_trials,
        seeds=seeds,
        search_seeds=search_seeds,
        feasible=feasible,
        challenge_trials=challenge_trials,
        searches=searches,
        control_batch_size=control_batch_size,
        margin=margin,
        target=target,
        selection=selection,
        seed=seed,
        threads=threads,
        batched_trials=batched_trials,
        challengers=challengers,
        baselines=baselines,
    )
    own_name: str = getattr(build_model, "__qualname__", "model")
    data = (train, validation, batch_size, steps)
    judged = (metric, mode, loss, metrics)
    workload = Workload(
        build_model, *data, *judged, name=name or own_name, test=test
    )
    if isinstance(arms, str):
        raise TypeError(f"arms must be a list of arms, received {arms!r}.")
    loaded = [a if isinstance(a, arm.Arm) else arm.load(a) for a in arms]
    return _run(workload, loaded, settings, output_dir, storage)


def _run(workload, arms, settings, output_dir, storage) -> Comparison:
    """Works on a study until it is done."""
    from lbcheck.comparison import progress
    from lbcheck.comparison import session
    from lbcheck.study import optuna_storage

    words = optuna_storage.without_credentials(sys.argv, storage)
    origin = {
        "name": workload.name,
        "workload": workload.name,
        "command": [sys.executable, *words],
        "flagfile": None,
    }
    study = session.Session(workload, arms, settings, origin)

    def finish(one, folder, is_beside=False):
        with one.opened(folder, storage):
            with progress.Progress(one.protocol.total) as bar:
                one.work(bar)
            one.publish(is_beside=is_beside)
            return one.ends()

    ends = [finish(study, output_dir)]
    for name, companion in study.companions():
        ends.append(finish(companion, study.folder / name, is_beside=True))
        report.write(study.folder)
    news = session.news(ends)
    if news:
        print(news, file=sys.stderr)
    return Comparison(output_dir, news)
