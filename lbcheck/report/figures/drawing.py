"""Panels: small Matplotlib axes that become SVG which follows the page.

A panel is drawn in stand-in colors, which turn into CSS variables of the page,
so one figure serves a dark and a light page; its text is text, in the page's
font. Equal input gives equal bytes.
"""

import contextlib
import io
import math
import re
import warnings
from xml.etree import ElementTree

INK = "#010101"
MUTED = "#020202"
RULE = "#030303"
NUM_COLORS = 8
SIZE = (5.0, 3.4)
"""Inches of 72 units of the SVG: the text has 10 of 360 units across."""

COUNTS = ("step", "trials", "variable")
"""What is counted: an axis of these has whole numbers."""

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "lines.solid_joinstyle": "round",
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "lbcheck",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "xtick.minor.visible": False,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}


def arm_color(number: int) -> str:
    """Stand-in of the color of arm `number`; the page has `NUM_COLORS`."""
    return f"#0a00{number % NUM_COLORS:02x}"


def shade(number: int) -> str:
    """Stand-in of the color of bin `number`, 0 to 4, light to strong."""
    return f"#0b00{number:02x}"


class Panel:
    """One axes and the SVG that it becomes.

    Args:
        name: Unique on the page; the identifiers inside begin with it.
        alternative: The text alternative: what is drawn.
        title: Over the axes.
        horizontal, vertical: The axes' labels.
        logarithmic: Which axes are logarithmic: "", "x", "y" or "xy".

    It is made, drawn on and turned into SVG inside `settings()`.
    """

    def __init__(
        self,
        name,
        alternative,
        title="",
        horizontal="",
        vertical="",
        logarithmic="",
    ):
        from matplotlib.figure import Figure

        self.name = name
        self.alternative = alternative
        self.figure = Figure(figsize=SIZE, dpi=72)
        self.axes = self.figure.add_axes((0.155, 0.16, 0.815, 0.74))
        self.axes.set_title(title)
        self.axes.set_xlabel(horizontal)
        self.axes.set_ylabel(vertical)
        if "x" in logarithmic:
            self.axes.set_xscale("log")
        if "y" in logarithmic:
            self.axes.set_yscale("log")
        if horizontal.startswith(COUNTS):
            self.axes.xaxis.get_major_locator().set_params(integer=True)

    def svg(self) -> str:
        """The panel as an SVG element for an HTML page."""
        file = io.BytesIO()
        for axis in (self.axes.xaxis, self.axes.yaxis):
            if axis.get_scale() == "log":
                label_decades(axis)
        with warnings.catch_warnings():
            # The page's font draws the text, not the one measured here.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            self.figure.savefig(
                file,
                format="svg",
                metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
            )
        return _clean(file.getvalue(), self.name, self.alternative)


def label_decades(axis):
    """Plain numbers at the decades, more of them where these are few."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    parts = (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    axis.set_major_locator(ticker.LogLocator(subs=parts, numticks=7))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))


@contextlib.contextmanager
def settings():
    """Matplotlib's settings for a panel, whatever the user's own are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _clean(svg, name, alternative):
    """Drops what a page does not need, and makes identifiers unique."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK[1:-5])
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet inside would style the whole page.
            if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
                parent.remove(child)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg.decode()))
    for element in root.iter():
        _clean_element(element, name, used)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": alternative}
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r">\s+<", "><", text)
    # HTML knows the namespaces and the plain name of the link.
    text = re.sub(r' xmlns(:\w+)?="[^"]+"', "", text)
    text = text.replace("xlink:href", "href")
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"#0a00(\w\w)", lambda m: f"var(--arm-{int(m[1], 16)})", text)
    return re.sub(
        r"#0b00(\w\w)", lambda m: f"var(--shade-{int(m[1], 16)})", text
    )


def _clean_element(element, name, used):
    attributes = element.attrib
    if "id" in attributes:
        if attributes["id"] in used:
            attributes["id"] = f"{name}-{attributes['id']}"
        else:
            del attributes["id"]
    for key in (_LINK, "clip-path"):
        if key in attributes:
            attributes[key] = attributes[key].replace("#", f"#{name}-", 1)
    for key in ("d", "x", "y", "transform", "points"):
        if key in attributes:
            attributes[key] = _rounded(attributes[key])
    if element.tag == f"{{{_SVG}}}text" and "style" in attributes:
        attributes["style"] = re.sub(
            r"font-family: [^;]*; ", "", attributes["style"]
        )


def _rounded(numbers):
    return re.sub(
        r"-?\d+\.\d+",
        lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."),
        numbers,
    )
