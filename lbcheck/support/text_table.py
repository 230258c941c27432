"""A table for a terminal."""


def text_table(columns, rows, numeric=()) -> str:
    """Columns side by side, as text.

    Args:
        columns: Their heads.
        rows: Lists of as many texts.
        numeric: Numbers of the columns that are set to the right.

    >>> print(text_table(["arm", "trials"], [["lars", "20"]], [1]))
    arm   trials
    lars      20
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    lines = [
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in (columns, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
