"""The report of a study: its verdict and every number, as one HTML page.

rows/           the numbers of the report as rows
results         the verdict and all rows: results.json and results.csv
figures/        the figures, drawn of these
tables          a table in HTML, Markdown and LaTeX
page_tables     which tables the report has
study_tables    those of how the study was made
page            the page, made of figures and tables
chronology      the spaces of a chain of studies, as tables
report_command  `lbcheck report`
bundle          a study in one file, and whether such a file is whole
bundle_command  `lbcheck bundle`
verify_command  `lbcheck verify`
judge_command   `lbcheck judge`: runs of any origin, and a page of them
"""

import pathlib

from lbcheck.support import files

PAGE = "report.html"


def write(folder) -> pathlib.Path:
    """Writes the report of a study beside its records.

    Args:
        folder: Folder with study.json and trials.jsonl. The report depends
            on these two files only: the same files, the same bytes.

    Returns:
        Path of report.html; results.json, results.csv, tables.md and
        tables.tex lie beside it.

    Raises:
        OSError: A file that cannot be read or written.
        ValueError: A file of the study that is damaged or of another format;
            the message names file and line. No report is touched then.

    Example:

        write("lbcheck_study")  # lbcheck_study/report.html
    """
    from lbcheck.report import page
    from lbcheck.report import page_tables
    from lbcheck.report import results
    from lbcheck.report import tables
    from lbcheck.study import study_folder

    read = study_folder.load(folder)
    collected = results.collect(read)
    printed = page_tables.for_papers(collected)
    texts = {
        "results.json": results.to_json(collected),
        "results.csv": results.to_csv(collected),
        "tables.md": tables.to_markdown(printed),
        "tables.tex": tables.to_latex(printed),
        PAGE: page.render(collected, read.study),
    }
    folder = pathlib.Path(folder)
    for name, text in texts.items():
        files.write_text(folder / name, text)
    return folder / PAGE
