"""`lbcheck verify`: whether a bundle of a study holds what it says.

    lbcheck verify lbcheck_study.zip
    lbcheck verify lbcheck_study.zip --format=json

Checks the digest of every file and the form of every record, and computes the
answer anew from the records. Nothing that the file names is imported or
called, and a file that holds anything else than a study is refused.

Exit codes: 0 all is as recorded; 1 something is not, and what; 2 no bundle.
"""

import json

from absl import app
from absl import flags

from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()
command.define_format(FLAGS)


def main(argv):
    """Prints what was found; 1 if anything is not as recorded."""
    from lbcheck.report import bundle

    if len(argv) != 1:
        raise app.UsageError(
            f"expected the file of one bundle, received {argv}."
        )
    found = bundle.verify(argv[0])
    if FLAGS.format == "json":
        print_json(found, argv[0])
    else:
        print(text(found, argv[0]))
    return exit_codes.FINDING if found["problems"] else exit_codes.FINISHED


def print_json(found, path):
    """Prints what was found in a bundle."""
    print(json.dumps({"bundle": str(path), **found}, indent=2))


def text(found, path) -> str:
    """The same for the eye."""
    number = len(found["files"])
    end = (
        "All is as recorded, and the answer is that of the records."
        if not found["problems"]
        else "\n".join(["Not as recorded:", *found["problems"]])
    )
    return "\n".join(
        [
            f"{path}: sha256 {found['sha256']}",
            f"{number} files, written by lbcheck {found['lbcheck']}.",
            found["sentence"],
            end,
        ]
    )
