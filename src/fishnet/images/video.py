"""Videos, by PyAV: their frames as images, and images as a video. Torch-free; PyAV is imported where it is used."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from PIL import Image

from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.writing import naming

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
_CODECS = ("libx264", "mpeg4")  # the first that this PyAV has
_FRAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, VIDEOS))}))#(\d+)", re.IGNORECASE | re.DOTALL)


def is_video(source: str | Path) -> bool:
    """Whether a file's ending is a video's."""
    return Path(source).suffix.lower() in VIDEOS


def frame_name(source: str, number: int) -> str:
    """``clip.mp4#12``: what a frame is called; the first is 0."""
    return f"{source}#{number}"


def frame_of(name: str) -> tuple[str, int] | None:
    """The inverse of :func:`frame_name`; None for what is no frame's name."""
    found = _FRAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def frames(path: str | Path) -> Iterator[Image.Image]:
    """The frames of a video's first image track one by one, upright, in RGB.

    Raises:
        InputError: no such file, no video, or one that breaks off: after the frames that can be read.
        ModuleNotFoundError: PyAV is missing.
    """
    import av

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    count = 0
    frame: Any  # PyAV is typed in part
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no images: not a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                image = frame.to_image()
                yield image.rotate(frame.rotation, expand=True) if frame.rotation else image
                count += 1
    except av.FFmpegError as error:
        place = f"breaks off after {count} frames" if count else "not a video that can be read"
        raise InputError(f"{path}: {place} ({error.strerror or first_line(error)})") from None
    if not count:
        raise InputError(f"{path}: a video without frames")


def rate_of(path: str | Path) -> Fraction:
    """Frames a second, on average; 25 where the video does not say. Errors as in :func:`frames`."""
    import av

    try:
        with av.open(str(path)) as container:
            return Fraction(container.streams.video[0].average_rate or 25)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{path}: not a video that can be read ({first_line(error)})") from None


class VideoWriter:
    """Images as an mp4 video, H.264 or else MPEG-4, at a constant rate. The file appears when it is closed.

    The first image decides the size, made even; others are cut off or filled up on the right and below.

    Args:
        path: the file.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        import av

        self.path, self.partial = path, path.with_name(f".{path.name}.partial")
        self.container = av.open(str(self.partial), "w", format="mp4")
        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream: Any = self.container.add_stream(codec, rate=rate.limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        self.stream, self.made = stream, cast("Any", av.VideoFrame).from_image
        self.rate, self.size = float(rate), (0, 0)

    def add(self, image: Image.Image) -> None:
        """The next image.

        Raises:
            WorkError: the encoder takes it not, as for an image of 1 px or a huge one.
        """
        import av

        if not any(self.size):
            self.size = image.width + image.width % 2, image.height + image.height % 2
            self.stream.width, self.stream.height = self.size
            self.stream.bit_rate = round(0.2 * self.size[0] * self.size[1] * self.rate)
        page = Image.new("RGB", self.size)
        page.paste(image)
        try:
            self.container.mux(self.stream.encode(self.made(page)))
        except av.FFmpegError as error:
            raise WorkError(f"{self.path}: cannot write this video ({first_line(error)})") from error

    def close(self, *, complete: bool = True) -> None:
        """Ends the video; without an image, or where it is not complete, there is none.

        Raises:
            WorkError: a full disk, or a place that cannot be written to.
        """
        complete = complete and any(self.size)
        try:
            with naming(self.path):
                if complete:
                    self.container.mux(self.stream.encode())
                self.container.close()
                if complete:
                    self.partial.replace(self.path)
        except WorkError:
            if complete:
                raise
        finally:
            self.partial.unlink(missing_ok=True)
