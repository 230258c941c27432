"""What differs between two fingerprints of a study, in words.

Floating numbers are compared with a tolerance, so that workers on other
machines may join.
"""

import math

from lbcheck.trials import code

TOLERANCE = {16: 1e-2, 32: 1e-4}
"""{bits: relative tolerance of loss and metrics of a model of that type}."""
_DATA_TOLERANCE = 1e-4
"""Tolerance of a batch's values, relative to their mean and deviation."""
_HINT = (
    " (if nothing was edited, something in it is random whatever the seed; "
    "initializers and generators take one)"
)
_RANDOM_TOLERANCE = 6
"""Standard errors between two samples of one random stream, at most."""


def difference(there: dict | None, here: dict) -> str | None:
    """What differs, in words; None if nothing does.

    Args:
        there: Fingerprint of the existing study; None where the version of
            lbcheck that began it recorded none.
        here: Fingerprint of the study asked for now.
    """
    if there is None and here is not None:
        return "it was begun by a version that kept no fingerprint of its code"
    if here is None:
        return None
    if there.keys() != here.keys():
        return "one is of a model in this process, the other of a program"
    found = [*_differing_code(there["code"], here["code"])]
    hint = ""
    if "layers" in here:
        found = [
            *_differing_layers(there["layers"], here["layers"]),
            *_differing_numbers(there, here),
            *_differing_data(there["data"], here["data"]),
            *found,
        ]
        hint = _HINT
    if len(found) > 3:
        found[3:] = [f"and {len(found) - 3} more"]
    return "; ".join(found) + hint if found else None


def close(a, b, tolerance: float = TOLERANCE[32]) -> bool:
    """Whether two numbers, or texts for what is not finite, agree."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance / 100)
    return a == b


def _differing_layers(there, here):
    if there == here:
        return
    before, now = (
        {layer[0]: layer for layer in part} for part in (there, here)
    )
    names = list(dict.fromkeys([*before, *now]))
    changed = [name for name in names if before.get(name) != now.get(name)]
    for name in changed:
        if name not in now or name not in before:
            where = "there" if name in before else "here"
            kind = (before | now)[name][1]
            yield f"layer {name!r} ({kind}) is only {where}"
        else:
            yield (
                f"layer {name!r} ({now[name][1]}) has another configuration "
                "than there"
            )
    if not changed:
        yield "the layers stand in another order"


def _differing_numbers(there, here):
    before, now = there["numbers"], here["numbers"]
    tolerance = max(there["tolerance"], here["tolerance"])
    when = ("of the new model", "during one update", "after one update")
    for name in dict.fromkeys([*before, *now]):
        if name not in before or name not in now:
            where = "there" if name in before else "here"
            yield f"the model reports {name!r} only {where}"
            continue
        for moment, a, b in zip(when, before[name], now[name]):
            if None not in (a, b) and not close(a, b, tolerance):
                yield (
                    f"{name} {moment} on one batch is {_short(a)} there, "
                    f"{_short(b)} here"
                )
                break


def _short(value):
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _differing_data(there, here):
    if there.keys() != here.keys():
        yield "there are test data in one of them only"
        return
    for part in there:
        before, now = there[part], here[part]
        if before.keys() != now.keys():
            yield f"the {part} data are of another kind or order"
        elif "arrays" in now:
            if before != now:
                yield f"the {part} arrays hold other values"
        elif "sample" in now:
            yield from _differing_sample(part, before["sample"], now["sample"])
        else:
            yield from _differing_batches(part, before, now)


def _differing_batches(part, before, now):
    for which in ("first", "last"):
        one, other = before[which], now[which]
        if one and other and not _same_batch(one, other):
            yield f"the {which} batch of the {part} data is another"
            return
    counts = before["batches"], now["batches"]
    if None not in counts and counts[0] != counts[1]:
        yield (
            f"the {part} data have {counts[0]} batches there, {counts[1]} here"
        )


def _same_batch(one, other):
    return len(one) == len(other) and all(
        a[:2] == b[:2] and _same_content(a[2], b[2]) for a, b in zip(one, other)
    )


def _same_content(one, other):
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    if not all(isinstance(x, float) for x in (*one, *other)):
        return one == other
    scale = abs(one[0]) + one[1]
    return all(
        abs(a - b) <= _DATA_TOLERANCE * scale for a, b in zip(one, other)
    )


def _differing_sample(part, there, here):
    if [row[0] for row in there] != [row[0] for row in here]:
        yield f"the {part} data hold arrays of other types"
        return
    for place, (one, other) in enumerate(zip(there, here)):
        for what, at in (("mean", 1), ("deviation", 2)):
            a, b = one[at], other[at]
            if not all(isinstance(x, float) for x in (*one[1:], *other[1:])):
                continue
            error = math.hypot(one[at + 2], other[at + 2])
            slack = _DATA_TOLERANCE * (abs(a) + abs(b))
            if abs(a - b) > _RANDOM_TOLERANCE * error + slack:
                yield (
                    f"the {part} data's array {place} has a {what} of "
                    f"{_short(a)} there, {_short(b)} here"
                )
                return


def _differing_code(there, here):
    for name in dict.fromkeys([*there, *here]):
        if (
            name in there
            and name in here
            and not code.same(there[name], here[name])
        ):
            yield f"the code of {name} was edited"
