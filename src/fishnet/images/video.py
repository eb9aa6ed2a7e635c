"""Reading and writing videos with PyAV, which is imported where it is used. Torch-free."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from PIL import Image

from fishnet.errors import InputError, WorkError, first_line
from fishnet.files.writing import write_errors

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
_CODECS = ("libx264", "mpeg4")  # the first available one is used
_FRAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, VIDEOS))}))#(\d+)", re.IGNORECASE | re.DOTALL)


def is_video(source: str | Path) -> bool:
    """Whether a file's extension is a video's."""
    return Path(source).suffix.lower() in VIDEOS


def frame_name(source: str, number: int) -> str:
    """The name of a frame, such as ``clip.mp4#12``; the first is 0."""
    return f"{source}#{number}"


def frame_of(name: str) -> tuple[str, int] | None:
    """The inverse of :func:`frame_name`; None for other names."""
    match = _FRAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def frames(path: str | Path) -> Iterator[Image.Image]:
    """Yields the frames of a video's first image track, upright, in RGB.

    Raises:
        InputError: no such file, or not a video. For a video that breaks off, it is raised after the readable frames.
        ModuleNotFoundError: PyAV is missing.
    """
    import av

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    count = 0
    frame: Any  # PyAV is only partly typed
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
    """Average frames per second; 25 if the video does not state it. Raises as :func:`frames`."""
    import av

    try:
        with av.open(str(path)) as container:
            return Fraction(container.streams.video[0].average_rate or 25)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{path}: not a video that can be read ({first_line(error)})") from None


class VideoWriter:
    """Writes images as an mp4 video, H.264 or else MPEG-4, at a constant rate. The file appears when it is closed.

    The first image sets the size, made even. Others are cropped or padded on the right and below.

    Args:
        path: the file.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        import av

        self.path, self.partial = path, path.with_name(f".{path.name}.partial")
        self.container = av.open(str(self.partial), "w", format="mp4")
        codec = next(name for name in _CODECS if name in av.codecs_available)
        stream: Any = self.container.add_stream(codec, rate=rate.limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        self.stream, self.make_frame = stream, cast("Any", av.VideoFrame).from_image
        self.rate, self.size = float(rate), (0, 0)

    def add(self, image: Image.Image) -> None:
        """Adds the next image.

        Raises:
            WorkError: the encoder refuses it, for example an image of 1 px or a huge one.
        """
        import av

        if not any(self.size):
            self.size = image.width + image.width % 2, image.height + image.height % 2
            self.stream.width, self.stream.height = self.size
            self.stream.bit_rate = round(0.2 * self.size[0] * self.size[1] * self.rate)
        page = Image.new("RGB", self.size)
        page.paste(image)
        try:
            self.container.mux(self.stream.encode(self.make_frame(page)))
        except av.FFmpegError as error:
            raise WorkError(f"{self.path}: cannot write this video ({first_line(error)})") from error

    def close(self, *, complete: bool = True) -> None:
        """Finishes the video. Without images, or with ``complete=False``, no file is written.

        Raises:
            WorkError: a full disk, or a path that cannot be written to.
        """
        complete = complete and any(self.size)
        try:
            with write_errors(self.path):
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
