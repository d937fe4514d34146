"""Curves in a page: the return, and the terms of the reward."""

import numpy as np
import viser
import viser.uplot

from phalanx.viewer.source import Curves

COLOURS = "#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd #8c564b #e377c2 #7f7f7f #bcbd22 #17becf".split()
LINES = ("return", "reward")
"""Series that have a plot of their own; the others share one."""
HEIGHT = 180
"""Of a plot [pixels]."""
NO_TICKS = viser.uplot.Axis_Ticks(show=False)
AXES = (
    viser.uplot.Axis(size=35, ticks=NO_TICKS),
    viser.uplot.Axis(size=72, ticks=NO_TICKS),
)
"""Room for the numbers below and at the side, which fits -1,000,000 [pixels]."""
PADDING = (10, 24, 0, 0)
"""Above, right, below and left [pixels]. A number at the top needs half its height there."""
PREFIX = "reward/"
"""Of the terms' names, which the title says once."""


class CurvePlots:
    """A folder of the page with two plots; it appears when there is something to show."""

    def __init__(self, server: viser.ViserServer) -> None:
        self.server = server
        self._plots: list[tuple[list[str], viser.GuiUplotHandle]] = []
        self._names: list[str] = []
        self._place = server.gui.add_folder("Curves", visible=False)

    def show(self, curves: Curves) -> None:
        """Draw these curves."""
        if len(curves.x) < 2:
            return
        names = list(curves.series)
        if names != self._names:
            self._begin(names, curves)
        for series, plot in self._plots:
            plot.data = _columns(series, curves)

    def _begin(self, names: list[str], curves: Curves) -> None:
        for _, plot in self._plots:
            plot.remove()
        self._names = names
        own = [n for n in names if n in LINES]
        rest = [n for n in names if n not in LINES]
        self._plots = []
        for title, series in (("", own), ("terms of the reward", rest)):
            if not series:
                continue
            lines = [viser.uplot.Series(label=curves.axis)]
            for k, name in enumerate(series):
                colour = COLOURS[k % len(COLOURS)]
                label = name.removeprefix(PREFIX)
                lines.append(viser.uplot.Series(label=label, stroke=colour, width=2))
            with self._place:
                plot = self.server.gui.add_uplot(
                    _columns(series, curves),
                    tuple(lines),
                    scales={"x": viser.uplot.Scale(time=False)},
                    axes=AXES,
                    title=title,
                    padding=PADDING,
                    height=HEIGHT,
                )
            self._plots.append((series, plot))
        self._place.visible = True


def _columns(series: list[str], curves: Curves) -> tuple[np.ndarray, ...]:
    """x and these series, without the points at which one of them is missing."""
    columns = np.array([curves.x, *(curves.series[n] for n in series)])
    return tuple(columns[:, ~np.isnan(columns).any(0)])
