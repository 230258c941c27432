"""The settings in which two published rows differ, in the paper's terms."""

from typing import Any

from lbcheck import published
from lbcheck.published import flagged
from lbcheck.published.rows import Row

_NOT_SETTINGS = ("output_dir",)
_WIDTH = 60
"""Of a cell in print."""
_TERMS = "nado2021_table5"
"""The table that has a symbol for each hyperparameter."""


def compare(one: Row, other: Row) -> dict[str, Any]:
    """What differs between the flagfiles of two rows, or what they search.

    LARS takes lambda inside its rule (--weight_decay), where it acts as L2
    does, so it is `l2` here; and one minus momentum is what the papers print.
    What a search tries is a text such as "[0.001, 50] log" or "{1, 2}".

    Args:
        one: A row with a flagfile.
        other: Another.

    Returns:
        "a" and "b", the rows' names; "differ", for each setting that both
        have and that differs "parameter", "symbol" (of Nado et al. 2021, or
        None), "a" and "b"; "only_a" and "only_b", {setting: value}.

    Example:
        >>> from lbcheck.published import rows
        >>> found = compare(rows.find("nado2021_table2_left_lars_1"),
        ...                 rows.find("nado2021_table2_left_lars_2"))
        >>> found["differ"]  # doctest: +NORMALIZE_WHITESPACE
        [{'parameter': 'warmup_power', 'symbol': 'p_warmup', 'a': 1, 'b': 2}]

    Raises:
        ValueError, app.UsageError: A row without a flagfile, or whose file is
            not there or damaged.

    Source: Nado et al. 2021, Table 1, is LARS against Nesterov B.
    """
    a, b = _terms(one), _terms(other)
    symbols = {
        row["parameter"]: row["symbol"]
        for row in published.load(_TERMS)["rows"]
    }
    order = [n for n in symbols if n in a] + [n for n in a if n not in symbols]
    return {
        "a": one.name,
        "b": other.name,
        "differ": [
            {
                "parameter": name,
                "symbol": symbols.get(name),
                "a": a[name],
                "b": b[name],
            }
            for name in order
            if name in b and a[name] != b[name]
        ],
        "only_a": {name: a[name] for name in a if name not in b},
        "only_b": {name: b[name] for name in b if name not in a},
    }


def _terms(row):
    if row.flagfile is None:
        raise ValueError(f"{row.name} has no settings: {row.no_run}.")
    found = {
        name: _value(text)
        for name, text in row.settings().items()
        if name not in _NOT_SETTINGS
    }
    if row.space is not None:
        searched = flagged.space(row.space)["parameters"]
        found |= {name: _tried(spec) for name, spec in searched.items()}
    if found["optimizer"] == "lars" and "l2" not in found:
        found["l2"] = found.pop("weight_decay")
    if "momentum" in found:
        found["one minus momentum"] = _one_minus(found.pop("momentum"))
    return found


def _tried(spec):
    """What a search tries for a flag: a value, or a text."""
    if "value" in spec:
        tried = _value(str(spec["value"]))
    elif "values" in spec:
        tried = f"{{{', '.join(map(str, spec['values']))}}}"
    else:
        tried = f"[{spec['min']:g}, {spec['max']:g}] {spec['scale']}"
        if "count" in spec:
            tried += f", {spec['count']} values"
    if spec.get("one_minus"):
        tried = _one_minus(tried)
    # Numbers per updates are updates of the row's own.
    is_part = "of" in spec and "per" not in spec
    return f"{tried} x {spec['of']}" if is_part else tried


def _one_minus(tried):
    """One minus a number, or minus what a text says; of both of these again."""
    if isinstance(tried, str):
        text = tried.removeprefix("1 - ")
        return text if text != tried else f"1 - {tried}"
    # Of the digits that are printed, none is beyond the twelfth.
    return round(1 - tried, 12)


def _value(text):
    """A number where the text is one, so that 5e-5 and 0.00005 are equal."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return int(number) if number == int(number) else number
    return text


def lines(found: dict[str, Any]) -> list[list[str]]:
    """The same as rows of a table: setting, symbol, value of a, value of b."""
    rows = [
        [n["parameter"], n["symbol"] or "", _short(n["a"]), _short(n["b"])]
        for n in found["differ"]
    ]
    rows += [[n, "", _short(v), "-"] for n, v in found["only_a"].items()]
    return rows + [[n, "", "-", _short(v)] for n, v in found["only_b"].items()]


def _short(value):
    """A value in print, without the middle of a long list."""
    text, part = str(value), _WIDTH // 2 - 3
    return text if len(text) <= _WIDTH else f"{text[:part]} ... {text[-part:]}"
