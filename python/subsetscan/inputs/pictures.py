"""Images from a folder of PNG and JPEG files, at the size and in the channels that a model takes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._extras import import_extra
from .._files import check_expansion, damage_as_value_error
from .._tables import counted

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["PictureFolder", "is_channels_first", "is_pictures"]

_EXTENSIONS = (".png", ".jpg", ".jpeg")
_COLOURS = {1: "L", 3: "RGB"}  # what Pillow calls grey and red, green, blue


class PictureFolder:
    """Pictures of a folder, in the order of their paths: read and resized when they are asked for, never all at once.

    Each is turned as its EXIF orientation says, as photographs of phones must be, stretched to the model's size, by
    bilinear interpolation, and made grey or RGB, CMYK without its colour profile. Transparency is left out. Files whose
    names start with a dot, and files of other kinds, are passed over.

    Parameters
    ----------
    path : path-like
        A folder, whose sub-folders count, or one picture.
    image_shape : tuple of int
        (H, W), (H, W, 1) or (H, W, 3); with channels first (1, H, W) or (3, H, W).

    Attributes
    ----------
    files : list of Path
    shape : tuple of int
        Their number, and the shape of an image.
    dtype : dtype

    Raises
    ------
    OSError
        If there is no such folder, or a file cannot be read.
    ValueError
        If it has no pictures, a file is not a picture in spite of its name, is animated, or has more than 8 bits for
        each channel; if images of that shape are neither grey nor RGB, or have no fixed size.
    ModuleNotFoundError
        If Pillow is not installed.

    Examples
    --------
    >>> scanner.fit(PictureFolder("clean", (224, 224, 3)))  # doctest: +SKIP
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path | str, image_shape: Sequence[int | None]) -> None:
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no folder of pictures at {path}")
        self.image_shape = tuple(size for size in image_shape if size is not None)
        if len(self.image_shape) < len(image_shape):
            raise ValueError(
                f"the pictures of {path} are brought to the size of the model's images, but the model has no fixed "
                f"size: it takes {tuple(image_shape)}; give it an .npy file of images"
            )
        n_channels = 1
        self._is_channels_first = False
        if len(self.image_shape) == 3:
            self._is_channels_first = is_channels_first(self.image_shape) is True
            n_channels = self.image_shape[0 if self._is_channels_first else -1]
        if len(self.image_shape) not in (2, 3) or n_channels not in _COLOURS:
            raise ValueError(
                f"the pictures of {path} are grey or RGB, so the model should take images of shape (H, W, 1), "
                f"(H, W, 3), (1, H, W) or (3, H, W), but it takes {self.image_shape}; give it an .npy file "
                "of such images"
            )
        self._colours = _COLOURS[n_channels]
        found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        self.files = [file for file in found if file.suffix.lower() in _EXTENSIONS]
        if not self.files:
            others = "no files"
            if found:
                others = f"{counted(len(found), 'other file')}, the first is {found[0].relative_to(path)}"
            raise ValueError(f"{path} has no pictures ({', '.join(_EXTENSIONS)}), but {others}")
        for file in self.files:  # which reads the first bytes only: better now than after hours of work
            self._open(file).close()

    @property
    def shape(self) -> tuple[int, ...]:  # noqa: D102 (the class says it)
        return len(self.files), *self.image_shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read some of the pictures, float32 of shape (n, *image_shape), in [0, 1]."""
        files = self.files[rows] if isinstance(rows, slice) else [self.files[row] for row in rows]
        images = np.empty((len(files), *self.image_shape), np.float32)
        for image, file in zip(images, files, strict=True):
            pixels = self._read(file)
            image[...] = np.moveaxis(pixels, -1, 0) if self._is_channels_first else pixels.reshape(self.image_shape)
        return images / np.float32(255)

    def _read(self, file: Path) -> np.ndarray:
        """Read one, uint8 of shape (H, W, C)."""
        height, width = self.image_shape[1:] if self._is_channels_first else self.image_shape[:2]
        with self._open(file, io.BytesIO(file.read_bytes())) as picture:  # Pillow allocates what a header promises
            check_expansion(file, math.prod(picture.size) * len(picture.getbands()))
            with damage_as_value_error(file):
                picture = import_extra("PIL.ImageOps", "responses").exif_transpose(picture)
                if picture.mode == "P":  # Pillow warns where it makes RGB of a palette with transparency
                    picture = picture.convert("RGBA")
                picture = picture.convert(self._colours)
            pixels = np.asarray(picture.resize((width, height), import_extra("PIL.Image", "responses").BILINEAR))
        return pixels.reshape(height, width, -1)

    @staticmethod
    def _open(file: Path, content: io.BytesIO | None = None) -> ImageFile:
        pillow = import_extra("PIL.Image", "responses")
        with damage_as_value_error(file, "is not a readable PNG or JPEG picture"):
            picture: ImageFile = pillow.open(content or file, formats=("PNG", "JPEG"))
        why = None
        if picture.mode.startswith(("I", "F")) or any(";16" in str(tile.args) for tile in picture.tile):
            why = "has more than 8 bits for each channel: save it with 8"  # of colours Pillow would drop the lower 8
        elif picture.format == "PNG" and (n := getattr(picture, "n_frames", 1)) > 1:
            why = f"is animated, of {n} pictures: save the one that is meant"
        if why:
            picture.close()
            raise ValueError(f"{file} {why}")
        return picture


def is_pictures(path: Path | str) -> bool:
    """Whether a path is a folder, or names a PNG or JPEG file."""
    path = Path(path)
    return path.is_dir() or path.suffix.lower() in _EXTENSIONS


def is_channels_first(shape: Sequence[int]) -> bool | None:
    """Tell whether the channels of a picture, one or three, come first or last; None where its shape does not tell."""
    first, last = shape[0] in _COLOURS, shape[-1] in _COLOURS
    return None if first == last else first
