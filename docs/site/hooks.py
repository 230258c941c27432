"""What Markdown cannot say: patterns in the list of pages, figures of studies.

A line `<!-- study: FOLDER FIGURE -->` of a page becomes the verdict of the
study in that folder of docs/ and the first panel of the figure of its report,
drawn anew from its records.
"""

import html
import pathlib
import re

from lbcheck import report
from lbcheck.report import figures
from lbcheck.report import page as report_page
from lbcheck.report import results
from lbcheck.study import study_folder

_STUDY = re.compile(r"^<!-- study: (\S+) (\S+) -->$", re.MULTILINE)
_STYLE = pathlib.Path(report.__file__).with_name("report.css")


def on_config(config):
    """Puts pages in the place of the patterns of `nav`."""
    folder = pathlib.Path(config.docs_dir)
    listed = set(_pages(config.nav))
    config.nav = _expanded(config.nav, folder, listed)
    return config


def _pages(entries):
    """The pages that the entries name, at any depth."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from _pages([below] if isinstance(below, str) else below)


def _expanded(entries, folder, listed):
    found = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            if not isinstance(below, str):
                below = _expanded(below, folder, listed)
            found.append({title: below})
        elif "*" in entry:
            matching = (
                path.relative_to(folder).as_posix()
                for path in folder.glob(entry)
            )
            found += sorted(set(matching) - listed)
        else:
            found.append(entry)
    return found


def on_page_markdown(markdown, page, config, **kwargs):
    """Draws the studies that a page shows."""
    docs = pathlib.Path(config.docs_dir)
    return _STUDY.sub(lambda m: _study(docs / m[1], m[1], m[2]), markdown)


def _study(folder, name, figure):
    """The HTML of a study: the answer, a panel, where both come from."""
    found = results.collect(study_folder.load(folder))
    drawn = figures.draw(found)[figure]
    answer = found["verdict"]["answer"].replace(" ", "-")
    first, stop, rest = report_page.sentence(found).partition(". ")
    parts = (
        f'<figure class="study {answer}">',
        f"<p><strong>{html.escape(first + stop)}</strong>{html.escape(rest)}"
        "</p>",
        drawn.panels[0],
        f"<figcaption>{html.escape(drawn.caption)} Drawn from the records in "
        f"<code>docs/{name}</code>.</figcaption></figure>",
    )
    # A blank line would end the block of HTML.
    return re.sub(r"\n\s*\n", "\n", "\n".join(parts))


def on_post_page(output, **kwargs):
    """Gives the figures the report's colours, those of the page's scheme."""
    if '<figure class="study' not in output:
        return output
    # The third are those of paper.
    light, dark, *_ = re.findall(
        r":root \{(.*?)\}", _STYLE.read_text(encoding="utf-8"), re.DOTALL
    )
    style = (
        f'[data-md-color-scheme="default"] {{{light}}}'
        f'[data-md-color-scheme="slate"] {{{dark}}}'
    )
    return output.replace("</head>", f"<style>{style}</style></head>")
