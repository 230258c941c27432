"""Makes docs/benchmarks.md of the lines in benchmarks/results.jsonl.

    python benchmarks/page.py

Of each measure the newest line counts. benchmarks/bars.json holds the bars,
each with the cause where a measure falls short of it.
"""

import json
import pathlib
import shlex

from absl import app

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINES = ROOT / "benchmarks/results.jsonl"
PAGE = ROOT / "docs/benchmarks.md"
BARS = ROOT / "benchmarks/bars.json"

_HEAD = """# Benchmarks

Every measure of `benchmarks/`, by one command:

<!-- not run: under an hour on two idle cores -->

    make bench

It installs the peers, runs every script and appends a line a measure to
`benchmarks/results.jsonl`, of which `python benchmarks/page.py` makes this
page; of each measure it shows the newest. Ours and the peer run in turn in one
process or one script, round after round: the ratio is ours by the peer's of
the same round, the median over the rounds, and its range. Sizes are those that
fit into an hour; a slow machine has fewer rounds, and what its hour does not
suffice for is told. The scripts' flags ask for other sizes.
"""


def read(path=LINES):
    """The lines but for those of --smoke.

    Raises:
        ValueError: A line is not as `common.tell` writes it.
    """
    found = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            key(line)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number}: {error!r}; expected a line of JSON "
                "with benchmark and either measure or skipped."
            ) from error
        if not line.get("smoke"):
            found.append(line)
    return found


def key(line):
    """What a line tells of; of two of one key the later counts."""
    if "skipped" in line:
        return line["benchmark"], None, tuple(line["arguments"])
    return line["benchmark"], line["measure"], line["peer_name"]


def newest(lines):
    """(measures, reasons of what was not measured), in order of the names.

    What was measured later, with the same arguments, is no longer skipped.
    """
    last = {}
    for line in lines:
        if "measure" in line:
            last.pop((line["benchmark"], None, tuple(line["arguments"])), None)
        last.pop(key(line), None)
        last[key(line)] = line
    ordered = sorted(last.values(), key=lambda line: line["benchmark"])
    return (
        [line for line in ordered if "measure" in line],
        [line for line in ordered if "skipped" in line],
    )


def bar_of(line, bars):
    """The entry of bars.json for a line, or None."""
    for bar in bars:
        if all(line.get(name) == bar[name] for name in _NAMES if name in bar):
            return bar
    return None


_NAMES = ("benchmark", "measure", "peer_name")


def is_short(line, bar):
    """Whether the measure falls short of its bar."""
    found = line["ours"] if line["ratio"] is None else line["ratio"]
    if line["better"] == "less":
        return found > bar["bar"]
    return found < bar["bar"]


def number(value):
    """Three digits; whole numbers whole."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _range(line):
    return " to ".join(map(number, line["range"] or ()))


def _bar(line, bars):
    bar = bar_of(line, bars)
    if bar is None:
        return ""
    least = "at most" if line["better"] == "less" else "at least"
    short = ": **short**" if is_short(line, bar) else ""
    return f"{least} {number(bar['bar'])}{short}"


def _table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _rows(lines, bars):
    for line in lines:
        peer = line["peer_name"] or ""
        yield [
            line["measure"],
            f"{number(line['ours'])} {line['unit']}",
            f"{number(line['peer'])} {peer}".strip(),
            number(line["ratio"]),
            _range(line),
            _bar(line, bars),
        ]


_COLUMNS = ["measure", "lbcheck", "peer", "ratio", "range", "bar"]


def _sections(measures, bars):
    for name in dict.fromkeys(line["benchmark"] for line in measures):
        lines = [line for line in measures if line["benchmark"] == name]
        commands = dict.fromkeys(f"`{_command(x)}`" for x in lines)
        where = dict.fromkeys(f"{x['machine']}, {x['date']}" for x in lines)
        yield f"## {name}\n\n{', '.join(commands)}: {'; '.join(where)}.\n"
        yield _table(_COLUMNS, _rows(lines, bars))


def _command(line):
    script = f"benchmarks/{line['benchmark']}.py"
    return shlex.join(["python", script, *line["arguments"]])


def _shortfalls(measures, bars):
    for line in measures:
        bar = bar_of(line, bars)
        if bar and is_short(line, bar):
            found = line["ours"] if line["ratio"] is None else line["ratio"]
            peer = f", beside {line['peer_name']}" if line["peer_name"] else ""
            yield [
                f"{line['benchmark']}: {line['measure']}{peer}",
                number(found),
                _bar(line, bars).partition(":")[0],
                bar.get("cause") or "not known",
            ]


def render(lines, bars):
    """The page.

    Args:
        lines: As `read` returns them.
        bars: Entries of bars.json.
    """
    measures, skipped = newest(lines)
    parts = [_HEAD, *_sections(measures, bars)]
    short = [*_shortfalls(measures, bars)]
    if short:
        parts.append("## What falls short of its bar\n")
        parts.append(_table(["measure", "found", "bar", "cause"], short))
    if skipped:
        parts.append("## Not measured\n")
        rows = [[f"`{_command(x)}`", x["skipped"]] for x in skipped]
        parts.append(_table(["command", "reason"], rows))
    return "\n".join(parts)


def main(argv):
    """Writes the page."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    bars = json.loads(BARS.read_text("utf-8"))
    PAGE.write_text(render(read(), bars), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    app.run(main)
