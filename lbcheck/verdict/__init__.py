"""The verdict: is LARS or LAMB, or another challenger, needed, and how sure?

judge       the verdict on a study, on runs from anywhere, on published medians
decision    how it follows from runs: pairs of arms first, then all pairs
difference  by how much one arm is ahead of another, and what more seeds show
search_luck how an answer depends on which hyperparameters were tried
several     the numbers of several searches, and of a control at a small batch
parts       which of several parts of the data is judged
statistics  medians, intervals and tests of few, noisy runs
results     what a verdict consists of
sentences   a verdict in words
run_tables  final metrics of runs from anywhere, of a table with a row a run
run_files   and of a file or folder a run
"""

from lbcheck.verdict.judge import answer
from lbcheck.verdict.judge import compare_arms
from lbcheck.verdict.judge import decide
from lbcheck.verdict.judge import from_summaries
from lbcheck.verdict.judge import is_finished
from lbcheck.verdict.judge import judged
from lbcheck.verdict.judge import leading
from lbcheck.verdict.judge import search_means
from lbcheck.verdict.judge import side
from lbcheck.verdict.results import ArmSummary
from lbcheck.verdict.results import PairVerdict
from lbcheck.verdict.results import Verdict

__all__ = [
    "ArmSummary",
    "PairVerdict",
    "Verdict",
    "answer",
    "compare_arms",
    "decide",
    "from_summaries",
    "is_finished",
    "judged",
    "leading",
    "search_means",
    "side",
]
