"""What a file is, told by its first bytes: formats that are read, and names for those that are not.

Names of files are not trusted, and Pillow is given only formats of this list: others of its
decoders have no signature of their own (and take anything), or run other programs.
"""

from typing import Final

from geoembed.errors import PictureError

__all__ = ["HEAD_BYTES", "HEIC_BRANDS", "PICTURE_SUFFIXES", "picture_format"]

# Long enough for the list of brands of HEIC and AVIF files.
HEAD_BYTES: Final = 256

# How files in folders are taken for pictures.
PICTURE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".heic", ".heif", ".hif", ".avif"),
)

# Signature -> the name by which Pillow knows the format.
_READ: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    **{f"P{digit}{space}".encode(): "PPM" for digit in "123456" for space in "\n\r\t "},
}
# Brands of the container that iPhones and others write: ISO/IEC 23008-12 and the AVIF format.
HEIC_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})

# What is often found where a picture should be.
_OTHERS: Final = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"PK\x03\x04": "a ZIP archive (or an office document)",
    b"\x1f\x8b": "a gzip archive",
    b"\x1aE\xdf\xa3": "a video",
    b"\xff\x0a": "a JPEG XL picture",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL picture",
    b"FUJIFILM": "a camera's raw file",
    b"IIRO": "a camera's raw file",
    b"IIU\x00": "a camera's raw file",
    b"version https://git-lfs": "a pointer of git-lfs: run git lfs pull to get the picture",
}
_MARKUP: Final = ((b"<svg", "an SVG drawing"), (b"<html", "a web page"), (b"<!doctype html", ""))


def picture_format(head: bytes) -> str:
    """Name the format of a picture.

    Parameters
    ----------
    head : bytes
        The file's first bytes; `HEAD_BYTES` of them are enough.

    Returns
    -------
    str
        The name that Pillow uses, or ``"HEIF"``.

    Raises
    ------
    PictureError
        If it is empty, or of no format that is read; the message says what it looks like.

    Examples
    --------
    >>> picture_format(bytes([0xFF, 0xD8, 0xFF, 0xE0]))
    'JPEG'
    >>> picture_format(b"%PDF-1.7")
    Traceback (most recent call last):
        ...
    geoembed.errors.PictureError: It is not a picture but a PDF document.
    """
    if not head:
        raise PictureError("It is empty: 0 bytes.")
    for signature, name in _READ.items():
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _container(head)
    raise PictureError(f"It is not a picture{_otherwise(head)}.")


def _container(head: bytes) -> str:
    """Tell still pictures from videos by their brands: the main one, then the compatible ones."""
    length = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head)), 4))}
    # AVIF files carry the general brand mif1 as well.
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & HEIC_BRANDS:
        return "HEIF"
    if head[8:12] == b"crx ":
        raise PictureError("It is not a picture but a camera's raw file.")
    raise PictureError("It is not a picture but a video.")


def _otherwise(head: bytes) -> str:
    for signature, what in _OTHERS.items():
        if head.startswith(signature):
            return f" but {what}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, what in _MARKUP:
        if text.startswith(tag) or (text.startswith(b"<?xml") and tag in text):
            return f" but {what or 'a web page'}"
    return (
        f", or of a format that is not read: it starts with {head[:8]!r}. Read are JPEG, PNG, "
        "WebP, GIF, BMP, TIFF, JPEG 2000, PPM, AVIF and, with the extra 'heic', HEIC"
    )
