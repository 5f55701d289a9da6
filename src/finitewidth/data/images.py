"""Images: block averages, and a folder of pictures with a subfolder a class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.checks import positive_integer, real_array
from finitewidth.checks.exceptions import InputError, needed
from finitewidth.data.encoding import Label
from finitewidth.data.files import MAX_BYTES, PathLike, TrainTest, existing, located, of_classes, parts, refuse_above

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**26  # 8192 x 8192
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow would start other programs for some others
MOST_SCANS = 500  # of a progressive JPEG; each may cost a pass over all pixels and take a few bytes only
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def block_average(images: Any, side: int) -> np.ndarray:
    """Images (P, n, n[, channels]) to (P, side, side[, channels]), means of square blocks."""
    x, side = real_array("images", images, (3, 4)), positive_integer("side", side)
    height, width = x.shape[1:3]
    if height != width or height % side:
        divisors = ", ".join(str(d) for d in range(1, height + 1) if height % d == 0)
        raise InputError(
            f"side = {side} for images of {height} x {width} pixels",
            "square images and a side that divides theirs",
            f"choose one of {divisors}" if height == width else "crop the images to squares first",
        )
    block = height // side
    return x.reshape(len(x), side, block, side, block, *x.shape[3:]).mean(axis=(2, 4))


def image_folder(
    path: PathLike,
    classes: Sequence[Label] | None = None,
    n_train: int = 200,
    n_test: int | None = None,
    seed: int = 0,
    standardise: str = "global",
    side: int | None = None,
    grey: bool = True,
    max_bytes: float = MAX_BYTES,
) -> TrainTest:
    """Pictures of 8 bits, a subfolder a class (its name the label); needs Pillow (extra ``data``).

    BMP, GIF (the first picture), JPEG, PNG, PPM, TIFF, WebP.

    x is (P, height, width), the mean of the channels, or (P, height, width, 3) with ``grey=False``; pixels
    are divided by 255. ``side`` resizes every picture to side x side by area averages; without it all must be
    equally large. Hidden files are passed over; any other file that is no picture is an InputError that names
    it, and so is a picture that declares more than 2^26 pixels (nothing of it is decoded).
    The points come in the order of the sorted names; the rest as for ``digits``.
    """
    root = existing(path, folder=True)
    files = [(file, folder.name) for folder in _class_folders(root) for file in _visible(folder)]
    if not files:
        raise InputError(f"folder {str(path)!r} without pictures", "a subfolder of pictures a class", "add pictures")
    shape = _declared_shape(files[0][0], side, grey)
    refuse_above(8.0 * len(files) * np.prod(shape), max_bytes, f"{len(files)} pictures of shape {shape}")
    x = np.empty((len(files), *shape))
    for place, (file, _) in enumerate(files):
        x[place] = _read(file, shape, side, grey)
    labels = np.array([name for _, name in files])
    return parts(of_classes(x, labels, classes), n_train, n_test, seed, standardise)


def _class_folders(root: Path) -> list[Path]:
    folders = [entry for entry in _visible(root) if entry.is_dir()]
    if len(folders) < 2:
        raise InputError(
            f"folder {str(root)!r} with {len(folders)} subfolders",
            "a subfolder of pictures for each of at least two classes",
            "sort the pictures into subfolders named by class",
        )
    return folders


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"folder {str(folder)!r} ({error.strerror})", "a folder you may read", "change its permissions"
        ) from error


def _declared_shape(file: Path, side: int | None, grey: bool) -> tuple[int, ...]:
    with _opened(file) as picture:
        width, height = picture.size
    if side is not None:
        height = width = positive_integer("side", side)
    return (height, width) if grey else (height, width, 3)


def _read(file: Path, shape: tuple[int, ...], side: int | None, grey: bool) -> np.ndarray:
    with _opened(file) as picture:
        if side is None and picture.size != (shape[1], shape[0]):
            raise InputError(
                f"{picture.size[1]} x {picture.size[0]} pixels among pictures of {shape[0]} x {shape[1]}",
                "pictures of one size",
                "give side= to resize all of them",
            )
        pixels = np.asarray(picture.convert("RGB"))
    values = (pixels.mean(axis=2) if grey else pixels) / 255.0
    return values if side is None else _area_average(values, side)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The picture with its header read and nothing decoded; raises InputError, with the file, for what is none."""
    with needed("Pillow", "data", "a folder of images"):
        from PIL import Image
    existing(file)
    with located(f"file {str(file)!r}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata, and Pillow's own limit on pixels: the cap below is lower
        try:
            with Image.open(file, formats=FORMATS) as picture:
                _check_header(picture, file)
                yield picture
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            what = "a picture that declares far too many pixels"
            raise InputError(what, f"at most {MAX_PIXELS}", "scale it down") from error
        except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them
            raise InputError("it is not a picture or is damaged", "pictures only", "mend or remove it") from error


def _check_header(picture: Image.Image, file: Path) -> None:
    n_pixels = picture.size[0] * picture.size[1]
    if n_pixels > MAX_PIXELS:
        raise InputError(f"a picture that declares {n_pixels} pixels", f"at most {MAX_PIXELS}", "scale it down")
    if picture.mode not in EIGHT_BIT_MODES:
        raise InputError(f"a picture of mode {picture.mode!r}", "8 bits a channel", "save it as an 8-bit PNG")
    if picture.format == "JPEG" and file.read_bytes().count(b"\xff\xda") > MOST_SCANS:
        raise InputError(f"more than {MOST_SCANS} scans", "a JPEG as cameras write it", "save it as PNG")


def _area_average(image: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (_overlaps(n, side) for n in image.shape[:2])
    return np.einsum("ih,hw...,jw->ij...", rows, image, columns, optimize=True)


def _overlaps(n: int, side: int) -> np.ndarray:
    """Weights (side, n): the share of each old pixel in each new one; equal blocks where side divides n."""
    edges = np.arange(side + 1) * n / side
    pixel = np.arange(n)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(shared, 0.0, None) * side / n
