"""What the pictures are drawn with: a little of SVG, for light and dark pages alike."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

# Colours that keep their distance to white and to black alike, and to each other without red and
# green; those of the plots. What a colour says is said in words, too.
INK: Final = "#7d8590"
BLUE: Final = "#2f81f7"
AMBER: Final = "#c58a12"
PINK: Final = "#bf4b8a"

SIZE: Final = 13
"""Of the text, in pixels."""


class Drawing:
    """A picture that grows by one element after the other, without a background."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {width:g} {height:g}",
                "width": f"{width:g}",
                "height": f"{height:g}",
                "font-family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif",
                "font-size": str(SIZE),
                "role": "img",
            },
        )
        ET.SubElement(self._root, "title").text = title
        definitions = ET.SubElement(self._root, "defs")
        head = ET.SubElement(
            definitions,
            "marker",
            {
                "id": "head",
                "viewBox": "0 0 8 8",
                "refX": "7.5",
                "refY": "4",
                "markerWidth": "8",
                "markerHeight": "8",
                "orient": "auto-start-reverse",
            },
        )
        ET.SubElement(head, "path", {"d": "M 0 0.5 L 8 4 L 0 7.5 z", "fill": INK})

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        *,
        outline: bool = False,
        opacity: float = 1.0,
    ) -> None:
        """A bar, or the outline of a box."""
        paint = (
            {"fill": colour, "fill-opacity": "0.12", "stroke": colour, "stroke-width": "1.5"}
            if outline
            else {"fill": colour, "fill-opacity": f"{opacity:g}"}
        )
        self._add("rect", paint, x=x, y=y, width=width, height=height, rx=6 if outline else 2)

    def line(self, points: list[tuple[float, float]], *, dashed: bool = False) -> None:
        """A thin line through the points."""
        self._path(points, {"stroke-dasharray": "3 3"} if dashed else {})

    def arrow(self, points: list[tuple[float, float]]) -> None:
        """A line with a head at its last point."""
        self._path(points, {"marker-end": "url(#head)"})

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK
    ) -> None:
        """One line of text, `y` at its middle; a name from the code if it is in backticks."""
        style = {"fill": colour, "text-anchor": anchor, "dominant-baseline": "central"}
        element = self._add("text", style, x=x, y=y)
        for number, part in enumerate(text.split("`")):
            kind = {"font-family": "ui-monospace, Menlo, Consolas, monospace"} if number % 2 else {}
            if part:
                ET.SubElement(element, "tspan", kind).text = part

    def __str__(self) -> str:
        ET.indent(self._root)
        for text in self._root.iter("text"):
            text.text = None  # blanks count in there
            for part in text:
                part.tail = None
        return ET.tostring(self._root, encoding="unicode") + "\n"

    def _path(self, points: list[tuple[float, float]], style: dict[str, str]) -> None:
        steps = " L ".join(f"{x:g} {y:g}" for x, y in points)
        self._add("path", {"d": f"M {steps}", "stroke": INK, "fill": "none", **style})

    def _add(self, kind: str, style: dict[str, str], **places: float) -> ET.Element:
        placed = {name: f"{round(value, 1):g}" for name, value in places.items()}
        return ET.SubElement(self._root, kind, {**placed, **style})
