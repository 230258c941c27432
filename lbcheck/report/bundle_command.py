"""`lbcheck bundle`: a study in one file, for somebody else to verify.

    lbcheck bundle lbcheck_study
    lbcheck bundle lbcheck_study --output=for_you.zip

Writes a zip file of the study's settings and records, those of its further
searches and its control, a digest of each, and the answer. The same records
give the same bytes. `lbcheck verify` checks it. Exit code 2: bad input.
"""

import pathlib

from absl import app
from absl import flags

from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()
command.define_format(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The file; unset: the folder's name with .zip, in the working folder.",
    flag_values=FLAGS,
)


def main(argv):
    """Writes the bundle and prints where."""
    from lbcheck.report import bundle
    from lbcheck.report import verify_command

    if len(argv) != 1:
        raise app.UsageError(
            f"expected the folder of one study, received {argv}."
        )
    name = pathlib.Path(argv[0]).resolve().name
    path = bundle.write(argv[0], _OUTPUT.value or f"{name}.zip")
    if FLAGS.format == "json":
        verify_command.print_json(bundle.verify(path), path)
    else:
        print(path)
    return exit_codes.FINISHED
