"""PaCo's way to labelled pairs: draw several grids of one prompt, cut them, pair cells anew.

Cells of one grid were drawn together and mostly agree; a cell of one grid with a cell of another
one shares the prompt and mostly not the somebody. What label a pair has is somebody else's to say.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.rewards.base import Picture

Cell = tuple[int, int]  # grid, cell in it


def cut(grid: Picture, rows: int = 2, columns: int = 2) -> list[Picture]:
    """The cells of a grid, row by row.

    Raises:
        InputError: the sides cannot be divided so.
    """
    h, w = grid.shape[:2]
    if rows < 1 or columns < 1 or h % rows or w % columns:
        raise InputError(f"a picture of {w} x {h} pixels has no {columns} x {rows} equal cells")
    return [
        np.ascontiguousarray(cell)
        for line in np.split(grid, rows)
        for cell in np.split(line, columns, axis=1)
    ]


def pairs(grids: int, cells: int) -> list[tuple[Cell, Cell]]:
    """Every two cells of the grids of one prompt."""
    every = [(grid, cell) for grid in range(grids) for cell in range(cells)]
    return list(combinations(every, 2))


def ranking_instances(grids: int, cells: int) -> list[tuple[Cell, list[Cell]]]:
    """A reference cell and, as its candidates, all cells of another grid: 48 for 4 grids of 4."""
    return [
        ((grid, cell), [(other, candidate) for candidate in range(cells)])
        for grid in range(grids)
        for cell in range(cells)
        for other in range(grids)
        if other != grid
    ]
