"""`lbcheck figure`: every figure of both papers.

lbcheck figure                                     the figures
lbcheck figure nado2021_figure2                    draws one
lbcheck figure nado2021_figure4 --records=records/figure4_mini
lbcheck figure you2019_figure8 --output=figure8.svg
lbcheck figure you2019_figure8 --format=json       the numbers that are drawn

A figure is drawn from published data where the paper printed them, else from
records, which --records names, else from a shipped miniature of them; its
caption says which. The paper can be left out of a name that is unique without
it. --format=json prints numbers, and draws only with --output.
Exit code 2: bad input.
"""

import json
import pathlib

from absl import app
from absl import flags

from lbcheck.figures import index
from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()
command.define_format(FLAGS)
flags.DEFINE_string(
    "output",
    None,
    "File of the picture, .png, .svg or .pdf; unset: NAME.png here.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "records",
    None,
    "Folder of a study, or of runs, that the figure is drawn from.",
    flag_values=FLAGS,
)


def main(argv):
    """Lists the figures, or draws one and prints where."""
    if not argv:
        for name in ("output", "records"):
            if FLAGS[name].value is not None:
                raise app.UsageError(f"--{name} needs the name of a figure.")
        print(_listed())
        return exit_codes.FINISHED
    if len(argv) > 1:
        raise app.UsageError(f"expected one figure, received {' '.join(argv)}.")
    _draw(index.find(argv[0]))
    return exit_codes.FINISHED


def _draw(name):
    from lbcheck.figures import painter

    as_text = FLAGS.format == "text"
    output = FLAGS.output or (f"{name}.png" if as_text else None)
    if output is not None:
        painter.check_path(pathlib.Path(output))
    figure = index.make(name, FLAGS.records)
    if output is not None:
        painter.write(figure, output)
    if as_text:
        print("\n".join([output, *figure.caption]))
    else:
        print(json.dumps(figure.to_dict() | {"output": output}, indent=1))


def _listed():
    found = [
        {
            "name": name,
            "title": entry.title,
            "source": entry.source,
            "numbers_from": entry.numbers_from(),
            "records": entry.needs or None,
            "command": entry.command or None,
        }
        for name, entry in index.ENTRIES.items()
    ]
    if FLAGS.format == "json":
        return json.dumps(found, indent=1)
    return "\n".join(
        f"{one['name']:<22} {one['numbers_from']:<19} {one['title']}"
        for one in found
    )
