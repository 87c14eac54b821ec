"""Decoding of uploaded pictures, which are the most hostile input a model server gets.

The header is read first: format and number of pixels are checked before a single one is decoded, so that a few
kilobytes cannot become gigabytes. Then: orientation, mode, fit, and an array in the layout the signature asks for.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mlserve_runtime.processing.errors import InputError, PipelineError
from mlserve_runtime.processing.tensors import DTYPES, Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlserve_core.model_spec import TensorSpec
    from mlserve_core.processing import ImageDecoding

# The cap of each model is checked below from the header; Pillow's own one would only warn.
Image.MAX_IMAGE_PIXELS = None

_RESAMPLING: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


class ImageDecoder:
    """Turns the bytes of one picture into one row of the raw input tensor."""

    def __init__(self, decoding: ImageDecoding, tensor: TensorSpec) -> None:
        self._decoding = decoding
        self._size = (decoding.width, decoding.height)
        self._resample = _RESAMPLING[decoding.resample]
        self._dtype = DTYPES[tensor.datatype]
        self._layout = _layout(decoding, tensor)
        self.input = tensor.name

    def __call__(self, data: bytes) -> Array:
        """Decode `data`; the result has the batch axis. Raises InputError saying what would be accepted."""
        decoding = self._decoding
        accepted = ", ".join(decoding.formats)
        try:
            with Image.open(io.BytesIO(data), formats=decoding.formats) as image:
                width, height = image.size
                if width * height > decoding.max_pixels:
                    raise InputError(
                        f"the image has {width} x {height} pixels; at most {decoding.max_pixels} are decoded"
                    )
                fitted = self._fit(_flatten(ImageOps.exif_transpose(image), decoding))
        except InputError:
            raise
        except UnidentifiedImageError as error:
            raise InputError(f"the image is none of {accepted}") from error
        except Exception as error:
            raise InputError(f"the image is damaged and cannot be decoded; expected {accepted}") from error
        if decoding.invert == "always" or (decoding.invert == "auto" and _has_bright_border(fitted)):
            fitted = ImageOps.invert(fitted)
        return self._layout(np.asarray(fitted)).astype(self._dtype)[np.newaxis]

    def _fit(self, image: Image.Image) -> Image.Image:
        decoding = self._decoding
        if decoding.resize_shorter_side:
            scale = decoding.resize_shorter_side / min(image.size)
            resized = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            left, top = (resized[0] - self._size[0]) // 2, (resized[1] - self._size[1]) // 2
            return image.resize(resized, self._resample).crop((left, top, left + self._size[0], top + self._size[1]))
        if image.size == self._size:
            return image
        if decoding.fit == "cover":
            return ImageOps.fit(image, self._size, self._resample)
        if decoding.fit == "contain":
            return ImageOps.pad(image, self._size, self._resample, color=(decoding.background,) * len(image.getbands()))
        return image.resize(self._size, self._resample)


def decode_base64(text: str) -> bytes:
    """Bytes of a base64 string or of a data URL (`data:image/png;base64,...`)."""
    if text.startswith("data:"):
        head, separator, text = text.partition(",")
        if not separator or not head.endswith(";base64"):
            raise InputError("the data URL must have the form data:image/png;base64,...")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("image is not valid base64; send base64 of the file, or a data URL") from error


def _flatten(image: Image.Image, decoding: ImageDecoding) -> Image.Image:
    """The picture in the wanted mode; transparency laid over the background."""
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        # Sixteen bits: Pillow would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image, dtype=np.float32) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (decoding.background,) * 3 + (255,))
        image = Image.alpha_composite(ground, rgba)
    return image if image.mode == decoding.mode else image.convert(decoding.mode)


def _has_bright_border(image: Image.Image) -> bool:
    pixels = np.asarray(image.convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(np.median(border) > 127)


def _layout(decoding: ImageDecoding, tensor: TensorSpec) -> Callable[[Array], Array]:
    """How an image's array [height, width(, 3)] becomes a row of the tensor."""
    height, width, shape = decoding.height, decoding.width, tensor.row_shape
    if tensor.datatype == "BYTES":
        raise PipelineError(f"image: input {tensor.name!r} is BYTES; give it UINT8 or FP32")
    if decoding.mode == "L":
        if shape in {(height, width), (1, height, width), (height, width, 1), (height * width,)}:
            return lambda pixels: pixels.reshape(shape)
        accepted = f"[-1, {height}, {width}] or [-1, 1, {height}, {width}]"
    else:
        if shape == (height, width, 3):
            return lambda pixels: pixels
        if shape == (3, height, width):
            return lambda pixels: np.ascontiguousarray(pixels.transpose(2, 0, 1))
        accepted = f"[-1, {height}, {width}, 3] or [-1, 3, {height}, {width}]"
    raise PipelineError(f"image: input {tensor.name!r} has shape {list(tensor.shape)}, a picture fits {accepted}")
