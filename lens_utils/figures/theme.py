"""Colours of the figures: one Plotly template and one pair of colour scales for light and for dark pages."""

from typing import Any, Literal

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

# Okabe and Ito's colour-blind safe palette; the dark order starts with the colours that carry on black.
COLOURS: dict[Scheme, tuple[str, ...]] = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C7A00", "#555555"),
    "dark": ("#56B4E9", "#E69F00", "#2FBF95", "#CC79A7", "#F0E442", "#E8743B", "#4C8FD0", "#AAAAAA"),
}
SCALES: dict[Scheme, dict[str, tuple[str, ...]]] = {
    "light": {
        "sequential": ("#F5F8FA", "#C6DCEA", "#86B6D6", "#3F86B8", "#0B5A8F", "#06304F"),
        "diverging": ("#8C2D04", "#D55E00", "#F6B48A", "#F7F7F5", "#92C2E0", "#0072B2", "#063F66"),
    },
    "dark": {
        "sequential": ("#161B20", "#17364C", "#1D5F8A", "#3F93C8", "#8CC7EC", "#EAF6FF"),
        "diverging": ("#FFC9A3", "#F08A45", "#8A4216", "#1B2025", "#1B4E73", "#4FA3DB", "#BFE3FA"),
    },
}
_INK: dict[Scheme, dict[str, str]] = {
    "light": {"text": "#2B3137", "grid": "#E6E8EA", "line": "#B9BFC5", "hover": "#FFFFFF"},
    "dark": {"text": "#D5DADF", "grid": "#2C333A", "line": "#56606A", "hover": "#20262C"},
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"


def scale(kind: str, scheme: Scheme) -> list[list[Any]]:
    """Colour scale `kind` ("sequential" or "diverging") as Plotly's list of [share, colour]."""
    kinds = SCALES[scheme]
    if kind not in kinds:
        raise ValueError(f"kind={kind!r}: choose one of {', '.join(map(repr, kinds))}")
    colours = kinds[kind]
    return [[index / (len(colours) - 1), colour] for index, colour in enumerate(colours)]


def template(scheme: Scheme) -> dict[str, Any]:
    """Plotly template for light or dark pages: transparent ground, thin grid, Okabe-Ito colours."""
    ink = _INK[scheme]
    axis = {
        "gridcolor": ink["grid"],
        "linecolor": ink["line"],
        "zerolinecolor": ink["line"],
        "tickcolor": ink["line"],
        "automargin": True,
        "title": {"standoff": 10},
    }
    layout = {
        "font": {"family": FONT, "size": 12, "color": ink["text"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(COLOURS[scheme]),
        "xaxis": axis,
        "yaxis": axis,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 32},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"bgcolor": ink["hover"], "bordercolor": ink["line"], "font": {"color": ink["text"]}},
        "annotationdefaults": {"font": {"color": ink["text"], "size": 12}},
    }
    return {"layout": layout, "data": {"bar": [{"error_y": {"color": ink["text"]}}]}}
