"""Figure of the speed-up over the number of TPUs, from the published times."""

from lbcheck import published
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Line
from lbcheck.figures.content import Panel

_HOURS = {"h": 1.0, "m": 1 / 60}


def efficiency() -> Drawn:
    """Speed-up against TPUs, relative to LAMB at batch 512 on 16 of them.

    Source: You et al. 2019, Figure 8, computed from Table 1.
    """
    rows = [
        row
        for row in published.load("you2019_table1")["rows"]
        if row["solver"] == "LAMB"
    ]
    first = rows[0]
    tpus = [row["tpus"] for row in rows]
    speedups = [_hours(first["time"]) / _hours(row["time"]) for row in rows]
    mixed = [i for i, row in enumerate(rows) if "/" in str(row["batch_size"])]
    same = [i for i in range(len(rows)) if i not in mixed]
    lines = [
        Line(label, [tpus[i] for i in group], [speedups[i] for i in group], s)
        for label, group, s in (
            ("batch in proportion to the TPUs", same, "both"),
            ("64k/32k mixed batch", mixed, "dots"),
        )
    ]
    ideal = [n / first["tpus"] for n in (tpus[0], max(tpus))]
    lines.append(Line("perfect scaling", [tpus[0], max(tpus)], ideal, "dotted"))
    said = [
        f"{row['batch_size']} on {row['tpus']} TPUs: {speedup:.1f}x by "
        f"{row['tpus'] // first['tpus']}x the TPUs, "
        f"{speedup * first['tpus'] / row['tpus']:.1%} efficient."
        for row, speedup in [*zip(rows, speedups)][-2:]
    ]
    printed = "Printed: 49.1x, 76.8 % (text: 76.7 %) and 65.2x, 101.8 %."
    panel = Panel("", "TPUv3 chips", "speed-up over 16", lines, "xy")
    return Drawn([panel], [*said, printed])


def _hours(text):
    return float(text[:-1]) * _HOURS[text[-1]]
