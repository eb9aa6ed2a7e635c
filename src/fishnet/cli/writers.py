"""Writers of predictions: to the screen, into result files, and onto the images."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.files.text import cell
from fishnet.files.writing import GrowingText, atomic_path, write_text
from fishnet.images.geo import georeference, save_georeferenced
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.remote import is_address
from fishnet.images.tiff import Directory
from fishnet.images.video import VideoWriter, frame_of, frames, is_video, rate_of
from fishnet.prediction.results import Detections, Result, Scene, Segmentation
from fishnet.prediction.results.segmentation import index_mode


class Writer:
    """Prints results as they come, and writes them to a file if a folder is given.

    The file is named ``predictions.jsonl.partial`` (or ``.csv.partial``) until it is complete.
    """

    def __init__(self, output_format: str, folder: Path | None, quiet: bool) -> None:
        self.output_format, self.quiet = output_format, quiet
        self.file = None
        if folder is not None:
            self.file = GrowingText(folder / f"predictions.{'csv' if output_format == 'csv' else 'jsonl'}")
        self.started = False

    def add(self, source: str, result: Result) -> None:
        """Adds the result of one image."""
        if self.output_format == "csv":
            rows = [
                {name: cell(value) if isinstance(value, str) else value for name, value in row.items()}
                for row in _ranked(source, result)
            ]
            for stream in self._streams():
                table = csv.DictWriter(stream, ["source", "rank", *result.columns], lineterminator="\n")
                if not self.started:
                    table.writeheader()
                table.writerows(rows)
        else:
            # JSON is ASCII here, which every encoding of the stream can write.
            line = json.dumps({"source": source, **result.to_dict()}, allow_nan=False)
            if self.file is not None:
                self.file.write(f"{line}\n")
            if not self.quiet:
                print(line if self.output_format == "jsonl" else f"{source}: {result.summary()}", flush=True)
        self.started = True

    def _streams(self) -> list[Any]:
        return [stream for stream in (self.file, None if self.quiet else sys.stdout) if stream is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        """Ends the file."""
        if self.file is not None:
            self.file.__exit__(*failure)


def _ranked(source: str, result: Result) -> Iterator[dict[str, Any]]:
    """Rows for a table, numbered from 1; those of a scene are numbered head by head."""
    ranks = Counter[Any]()
    for row in result.rows():
        head = row.get("head") if isinstance(result, Scene) else None
        ranks[head] += 1
        yield {"source": source, "rank": ranks[head], **row}


class OfHead:
    """Passes one part of each scene to a writer of results.

    Args:
        writer: of the results of one head, or of panoptic segments.
        head: the head's name; None for the panoptic segments.
    """

    def __init__(self, writer: Any, head: str | None) -> None:
        self.writer, self.head = writer, head

    def add(self, source: str, result: Result) -> None:
        """Adds the scene of one image."""
        assert isinstance(result, Scene)
        self.writer.add(source, result.panoptic if self.head is None else result[self.head])


class FreeNames:
    """Finds file names in a folder that no image to predict and no other result has."""

    def __init__(self, folder: Path, sources: Sequence[str]) -> None:
        self.folder, self.taken = folder, {Path(source).resolve() for source in sources}

    def take(self, source: str, extension: str = ".png") -> Path:
        """Returns ``photo.png`` for ``photo.jpg``, or ``photo-2.png`` ...; for a frame ``clip-12.png``."""
        frame = frame_of(source)
        stem = Path(source).stem if frame is None else f"{Path(frame[0]).stem}-{frame[1]}"
        number, path = 1, self.folder / f"{stem}{extension}"
        while path.resolve() in self.taken:
            number += 1
            path = self.folder / f"{stem}-{number}{extension}"
        self.taken.add(path.resolve())
        return path


class Overlays:
    """Saves each image with its result drawn on it as PNG, and the frames of a video as a video.

    A video is read a second time for this, frame by frame alongside the prediction, so that no frames are kept.

    Args:
        folder: where the files go.
        sources: everything that is predicted; none of these files is overwritten.
        preprocess: the model's preprocessing, which defines how images are read.
        max_pixels: maximum number of pixels of an image.
    """

    def __init__(
        self, folder: Path, sources: Sequence[str], preprocess: Preprocess, max_pixels: int | None = None
    ) -> None:
        self.names, self.preprocess = FreeNames(folder, sources), preprocess
        self.reading = replace(preprocess.reading, max_pixels=max_pixels, min_side=0)
        self.video: VideoWriter | None = None
        self.path = ""  # of the current video
        self.frames: Iterator[Image.Image] = iter(())
        self.next_frame = 0

    def add(self, source: str, result: Result) -> None:
        """Adds the result of one image or frame. Frames must come in order."""
        frame = frame_of(source)
        if frame is None:
            self.close()
            with atomic_path(self.names.take(source)) as partial:
                result.draw(_view(source, self.preprocess.channels, self.reading)).save(partial)
            return
        path, number = frame
        if path != self.path or number < self.next_frame:
            self.close()
            self.video = VideoWriter(self.names.take(path, ".mp4"), rate_of(path))
            self.path, self.frames, self.next_frame = path, frames(path), 0
        image = next(islice(self.frames, number - self.next_frame, None))
        self.next_frame = number + 1
        assert self.video is not None
        self.video.add(result.draw(image))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Ends the current video; removes it if an exception ended the work."""
        self.close(complete=kind is None)

    def close(self, *, complete: bool = True) -> None:
        """Ends the current video; removes it if it is not complete."""
        video, self.video, self.path, self.frames = self.video, None, "", iter(())
        if video is not None:
            video.close(complete=complete)


def _view(source: str, channels: int, reading: Reading) -> Image.Image:
    """Returns an image to draw on: in colour if it has any, even if the model's input is grey."""
    from fishnet.images.decoding import as_view, decode_image
    from fishnet.prediction.inputs import content_of

    encoded = content_of(source)
    with suppress(InputError):  # the image's number of channels is neither 1 nor 3
        return decode_image(encoded, 3, source, reading=reading)
    return as_view(decode_image(encoded, channels, source, reading=reading))


class Masks:
    """Saves the label map of an image as ``masks/NAME.png``, and that of a frame as ``masks/CLIP-12.png``.

    The label map of a georeferenced TIFF file becomes ``masks/NAME.tif`` with the same georeference.

    Args:
        folder: where the folder ``masks`` goes.
        sources: everything that is predicted; none of these files is overwritten.
        classes: the model's classes.

    Raises:
        InputError: a PNG file cannot hold the ids of the classes.
    """

    def __init__(self, folder: Path, sources: Sequence[str], classes: Classes) -> None:
        index_mode(classes)
        self.names = FreeNames(folder / "masks", sources)
        self.names.folder.mkdir(parents=True, exist_ok=True)

    def add(self, source: str, result: Result) -> None:
        """Adds the label map of one image; its values are the original ids of the classes."""
        assert isinstance(result, Segmentation)
        tags = None if frame_of(source) is not None or is_address(source) else self._georeference(source)
        with atomic_path(self.names.take(source, ".png" if tags is None else ".tif")) as partial:
            if tags is None:
                result.index_image().save(partial)
            else:
                save_georeferenced(result.index_image(), partial, tags)

    def _georeference(self, source: str) -> Directory | None:
        try:
            return georeference(source)
        except InputError as error:
            print(f"fishnet: {error}: the mask has no georeference", file=sys.stderr)
            return None


class ImageIds:
    """The image ids of a COCO file, by file name.

    Args:
        path: annotations, or any COCO file with images.

    Raises:
        InputError: there is no such file, or it has no images.
    """

    def __init__(self, path: Path) -> None:
        from fishnet.data.detection.coco_stream import read_entries

        self.path = path
        self.images: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}
        for entry in read_entries(path, {"images"}):
            name, number = entry.value.get("file_name"), entry.value.get("id")
            if not isinstance(name, str) or not isinstance(number, int | str):
                raise InputError(f"{path}:{entry.line}: this image has no file_name or no id")
            parts = PurePosixPath(name.replace("\\", "/")).parts or (name,)
            self.images.setdefault(parts[-1], []).append((parts, {"id": number, "file_name": name}))
        if not self.images:
            raise InputError(f"{path}: has no images: give a COCO file of annotations")

    def of(self, source: str) -> dict[str, Any]:
        """Returns ``{"id", "file_name"}`` of the image whose name shares the most trailing parts with a path.

        Raises:
            InputError: there is no such image, or several.
        """
        parts = Path(source).absolute().parts
        ranked = [(_common_parts(parts, known), image) for known, image in self.images.get(parts[-1], [])]
        best = max((rank for rank, _ in ranked), default=None)
        matches = [image for rank, image in ranked if rank == best]
        if not matches:
            raise InputError(f"{source}: has no image id: no image of {self.path} has this name")
        if len(matches) > 1:
            names = ", ".join(f"{image['file_name']} (id {image['id']})" for image in matches[:3])
            raise InputError(f"{source}: may be any of {names} in {self.path}")
        return matches[0]


def _common_parts(path: Sequence[str], name: Sequence[str]) -> tuple[int, bool]:
    """Returns how many trailing parts a path and a name share, and whether these are all parts of the name."""
    pairs = zip(reversed(path), reversed(name), strict=False)
    count = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return count, count == len(name)


class CocoFiles:
    """Writes a COCO results file, and a file with the images and categories of its ids.

    ``coco_results.json`` is a list of what :meth:`Detections.coco` returns; ``coco_images.json`` has ``images`` (id,
    file_name, width, height) and ``categories`` (id, name). Both appear at the end. If an exception ends the work, the
    results so far stay in ``coco_results.json.partial``.

    Args:
        folder: where the files go; created if missing.
        classes: the model's classes.
        ids: the ids of the images; by default they are numbered 1, 2, ... in order.
    """

    def __init__(self, folder: Path, classes: Classes, ids: ImageIds | None = None) -> None:
        self.classes, self.ids = classes, ids
        self.results, self.table = folder / "coco_results.json", folder / "coco_images.json"
        self.file = GrowingText(self.results)
        self.images: list[dict[str, Any]] = []
        self.separator = "["

    def add(self, source: str, result: Result) -> None:
        """Adds the detections of one image."""
        assert isinstance(result, Detections)
        image: dict[str, Any] = (
            {"id": len(self.images) + 1, "file_name": source} if self.ids is None else self.ids.of(source)
        )
        self.images.append({**image, "width": result.size[1], "height": result.size[0]})
        for entry in result.coco(image["id"]):
            self.file.write(f"{self.separator}\n{json.dumps(entry, allow_nan=False)}")
            self.separator = ","

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.file.write("[]\n" if self.separator == "[" else "\n]\n")
        self.file.__exit__(kind, error, trace)
        if kind is None:
            categories = [{"id": entry["id"], "name": entry["name"]} for entry in self.classes.to_list()]
            write_text(self.table, json.dumps({"images": self.images, "categories": categories}, indent=1) + "\n")


def check_ids(ids: ImageIds, sources: Sequence[str]) -> None:
    """Checks that every image has an image id.

    Raises:
        InputError: an image has none; the message names it.
    """
    for source in sources:
        if is_video(source):
            raise InputError(f"{source}: is a video, and only images have image ids")
        ids.of(source)
