"""A picture file of the user's own, made fit for a model: size, channels, which of ink and paper is bright.
Pillow reads it; every step that changes the picture is told in words.
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npae.data.pictures import PictureError


def read(path: str | Path, shape: Sequence[int], *, invert: bool = False) -> tuple[np.ndarray, str]:
    """The picture as uint8 of a shape (H, W, C), and a sentence that says what was done to it.

    It is turned as its camera says, what is transparent becomes black, colours become grey where C is 1, and grey three
    equal colours where C is 3. It is scaled with antialiasing until it fits, its proportions kept, and stands in the
    middle of black. `invert` turns dark ink on white paper into bright ink on black, before the rest.

    Raises: PictureError for a file that is missing or that Pillow cannot read, and for a model's C that is not 1 or 3.
    """
    H, W, C = shape
    if C not in (1, 3):
        raise PictureError(f"a picture file has 1 channel (grey) or 3 (colour), and the model takes {C}")
    image = _open(Path(path))
    width, height = image.size
    done = [f"{Path(path).name} ({width} x {height}, {'grey' if image.mode in ('L', 'LA') else 'colour'})"]
    image = _on_black(image, C, invert, done)
    scale = min(W / width, H / height)
    w, h = max(1, round(scale * width)), max(1, round(scale * height))
    if (w, h) != (width, height):
        from PIL.Image import Resampling

        image = image.resize((w, h), Resampling.BILINEAR)  # Pillow widens the filter with the step: antialiased
        done.append(f"scaled to {w} x {h}")
    x = np.zeros((H, W, C), np.uint8)
    top, left = (H - h) // 2, (W - w) // 2
    x[top : top + h, left : left + w] = np.asarray(image).reshape(h, w, C)
    if (w, h) != (W, H):
        done.append(f"set in the middle of {W} x {H} black pixels")
    return x, done[0] + (": " + ", ".join(done[1:]) if done[1:] else ": taken as it is")


def _open(path: Path) -> Any:
    """The file as a Pillow picture in L, LA, RGB or RGBA, turned upright.   Only the first picture of an animation."""
    from PIL import Image, ImageOps

    if not path.is_file():
        raise PictureError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: give the path of a picture file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged EXIF, and the like
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would cut off all above 255
            grey = np.asarray(image).astype(np.float64)
            if not 0 <= grey.min() <= grey.max() < 1 << 16:
                raise ValueError(f"its pixels go from {grey.min():.0f} to {grey.max():.0f}, and those of 8 or 16 bits "
                                 "alone have a known white")
            return Image.fromarray((grey / 257).round().astype(np.uint8))
        if image.mode == "F":
            raise ValueError("its pixels are real numbers without a known range")
        clear = image.has_transparency_data
        return image.convert(("LA" if clear else "L") if image.mode in ("1", "L", "LA") else "RGBA" if clear else "RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:
        raise PictureError(f"{path} is no picture that can be read ({error}): give a PNG, JPEG or the like") from None


def _on_black(image: Any, C: int, invert: bool, done: list[str]) -> Any:
    """Without transparency, in C channels, inverted where asked; `done` is told."""
    from PIL import Image, ImageOps

    if image.mode in ("LA", "RGBA"):
        paper = Image.new(image.mode, image.size, "white" if invert else "black")  # inverted, white will be black
        image = Image.alpha_composite(paper.convert("RGBA"), image.convert("RGBA")).convert(image.mode[:-1])
        done.append("what is transparent made black")
    if (image.mode == "L") != (C == 1):
        done.append("made grey" if C == 1 else "grey taken as three equal colours")
        image = image.convert("L" if C == 1 else "RGB")
    if invert:
        done.append("inverted")
        image = ImageOps.invert(image)
    return image
