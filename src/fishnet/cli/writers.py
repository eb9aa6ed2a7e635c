"""Where predictions go: to the screen, into files of results, onto the images."""

import csv
import json
import sys
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
from fishnet.files.writing import GrowingText, whole, write_text
from fishnet.images.geo import georeference, save_georeferenced
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.remote import is_address
from fishnet.images.tiff import Directory
from fishnet.images.video import VideoWriter, frame_of, frames, is_video, rate_of
from fishnet.prediction.results import Detections, Result, Segmentation
from fishnet.prediction.results.segmentation import index_mode


class Writer:
    """Prints results as they come, and keeps them in a file where a folder is given.

    The file is ``predictions.jsonl.partial`` (or ``.csv.partial``) until the work is complete.
    """

    def __init__(self, form: str, folder: Path | None, quiet: bool) -> None:
        self.form, self.quiet = form, quiet
        self.file = None
        if folder is not None:
            self.file = GrowingText(folder / f"predictions.{'csv' if form == 'csv' else 'jsonl'}")
        self.started = False

    def add(self, source: str, result: Result) -> None:
        """One image's result."""
        if self.form == "csv":
            rows = [
                {name: cell(value) if isinstance(value, str) else value for name, value in row.items()}
                for row in ({"source": source, "rank": i + 1, **row} for i, row in enumerate(result.rows()))
            ]
            for stream in self._streams():
                table = csv.DictWriter(stream, ["source", "rank", *result.columns], lineterminator="\n")
                if not self.started:
                    table.writeheader()
                table.writerows(rows)
        else:
            # ASCII: readable whatever the stream's encoding
            line = json.dumps({"source": source, **result.to_dict()}, allow_nan=False)
            if self.file is not None:
                self.file.write(f"{line}\n")
            if not self.quiet:
                print(line if self.form == "jsonl" else f"{source}: {result.summary()}", flush=True)
        self.started = True

    def _streams(self) -> list[Any]:
        return [stream for stream in (self.file, None if self.quiet else sys.stdout) if stream is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        """Ends the file."""
        if self.file is not None:
            self.file.__exit__(*failure)


class FreeNames:
    """A free file name in a folder for each result: never that of an image being predicted, never one twice."""

    def __init__(self, folder: Path, sources: Sequence[str]) -> None:
        self.folder, self.taken = folder, {Path(source).resolve() for source in sources}

    def take(self, source: str, ending: str = ".png") -> Path:
        """``photo.png`` for ``photo.jpg``, or ``photo-2.png``, ``photo-3.png`` ..."""
        number, path = 1, self.folder / f"{Path(source).stem}{ending}"
        while path.resolve() in self.taken:
            number += 1
            path = self.folder / f"{Path(source).stem}-{number}{ending}"
        self.taken.add(path.resolve())
        return path


class Overlays:
    """Each image with its result drawn on it, as PNG, and the frames of a video as a video.

    A video is read a second time for this, frame by frame beside the prediction, so that no frames are kept.

    Args:
        folder: where they go.
        sources: all that is predicted: none of them is overwritten.
        preprocess: of the model: how it reads images.
        max_pixels: of an image.
    """

    def __init__(
        self, folder: Path, sources: Sequence[str], preprocess: Preprocess, max_pixels: int | None = None
    ) -> None:
        self.names, self.preprocess = FreeNames(folder, sources), preprocess
        self.how = replace(preprocess.reading, max_pixels=max_pixels)
        self.video: VideoWriter | None = None
        self.reading, self.next = ("", iter(())), 0  # the video at hand, its frames, and which of them comes

    reading: tuple[str, Iterator[Image.Image]]

    def add(self, source: str, result: Result) -> None:
        """One image's result, or a frame's, in order."""
        frame = frame_of(source)
        if frame is None:
            self.close()
            with whole(self.names.take(source)) as partial:
                result.draw(_view(source, self.preprocess.channels, self.how)).save(partial)
            return
        path, number = frame
        if path != self.reading[0] or number < self.next:
            self.close()
            self.video = VideoWriter(self.names.take(path, ".mp4"), rate_of(path))
            self.reading, self.next = (path, frames(path)), 0
        image = next(islice(self.reading[1], number - self.next, None))
        self.next = number + 1
        assert self.video is not None
        self.video.add(result.draw(image))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Ends the video at hand; one that was broken off is removed."""
        self.close(complete=kind is None)

    def close(self, *, complete: bool = True) -> None:
        """Ends the video at hand."""
        video, self.video, self.reading = self.video, None, ("", iter(()))
        if video is not None:
            video.close(complete=complete)


def _view(source: str, channels: int, reading: Reading) -> Image.Image:
    """An image to draw on: in colour where it has any, also for a model of grey input."""
    from fishnet.images.decoding import as_view, decode_image
    from fishnet.prediction.inputs import content_of

    encoded = content_of(source)
    with suppress(InputError):  # of other channels than 1 and 3
        return decode_image(encoded, 3, source, reading=reading)
    return as_view(decode_image(encoded, channels, source, reading=reading))


class Masks:
    """Each image's label map as ``masks/NAME.png``, a frame's as ``masks/CLIP-12.png``.

    Of a georeferenced TIFF file as ``masks/NAME.tif``, which has the same georeference.

    Args:
        folder: that ``masks`` goes into.
        sources: all that is predicted: none of them is overwritten.
        classes: of the model.

    Raises:
        InputError: ids of classes that a PNG file cannot hold.
    """

    def __init__(self, folder: Path, sources: Sequence[str], classes: Classes) -> None:
        index_mode(classes)
        self.names = FreeNames(folder / "masks", sources)
        self.names.folder.mkdir(parents=True, exist_ok=True)

    def add(self, source: str, result: Result) -> None:
        """One image's labels, as the classes' original ids."""
        assert isinstance(result, Segmentation)
        frame = frame_of(source)
        name = source if frame is None else f"{Path(frame[0]).stem}-{frame[1]}.png"
        tags = None if frame is not None or is_address(source) else self._georeference(source)
        with whole(self.names.take(name, ".png" if tags is None else ".tif")) as partial:
            if tags is None:
                result.index_image().save(partial)
            else:
                save_georeferenced(result.index_image(), partial, tags)

    def _georeference(self, source: str) -> Directory | None:
        try:
            return georeference(source)
        except InputError as error:
            print(f"fishnet: {error}: the mask has none", file=sys.stderr)
            return None


class ImageIds:
    """The image ids of a COCO file, by the images' names.

    Args:
        path: annotations, or any COCO file with images.

    Raises:
        InputError: no such file, or without images.
    """

    def __init__(self, path: Path) -> None:
        from fishnet.data.detection.coco_stream import read_entries

        self.path = path
        self.images: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}
        for entry in read_entries(path, {"images"}):
            name, number = entry.value.get("file_name"), entry.value.get("id")
            if not isinstance(name, str) or not isinstance(number, int | str):
                raise InputError(f"{path}:{entry.line}: an image without file_name or id")
            parts = PurePosixPath(name.replace("\\", "/")).parts or (name,)
            self.images.setdefault(parts[-1], []).append((parts, {"id": number, "file_name": name}))
        if not self.images:
            raise InputError(f"{path}: no images in it: give a COCO file of annotations")

    def of(self, source: str) -> dict[str, Any]:
        """``{"id", "file_name"}`` of the image whose name agrees with most of a path's last parts.

        Raises:
            InputError: none, or several.
        """
        parts = Path(source).absolute().parts
        agreeing = [(_alike(parts, known), image) for known, image in self.images.get(parts[-1], [])]
        best = max((rank for rank, _ in agreeing), default=None)
        found = [image for rank, image in agreeing if rank == best]
        if len(found) != 1:
            names = ", ".join(f"{image['file_name']} (id {image['id']})" for image in found[:3])
            raise InputError(
                f"{source}: "
                + (f"may be any of {names} in {self.path}" if found else f"no image of {self.path}: has no image id")
            )
        return found[0]


def _alike(path: Sequence[str], name: Sequence[str]) -> tuple[int, bool]:
    """How many last parts of a path and a name are the same, and whether these are all of the name's."""
    pairs = zip(reversed(path), reversed(name), strict=False)
    count = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return count, count == len(name)


class CocoFiles:
    """A COCO results file, and one that says which image and which category its ids are.

    ``coco_results.json`` is a list as :meth:`Detections.coco` gives it; ``coco_images.json`` has ``images`` (id,
    file_name, width, height) and ``categories`` (id, name). Both appear at the end. If the work is broken off, the
    results so far stay in ``coco_results.json.partial``.

    Args:
        folder: where they go; it is there.
        classes: of the model.
        ids: of the images; by default these are numbered 1, 2, ... in order.
    """

    def __init__(self, folder: Path, classes: Classes, ids: ImageIds | None = None) -> None:
        self.classes, self.ids = classes, ids
        self.results, self.table = folder / "coco_results.json", folder / "coco_images.json"
        self.file = GrowingText(self.results)
        self.images: list[dict[str, Any]] = []
        self.separator = "["

    def add(self, source: str, result: Result) -> None:
        """One image's objects."""
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
    """Whether every image has an image id.

    Raises:
        InputError: naming one that has none.
    """
    for source in sources:
        if is_video(source):
            raise InputError(f"{source}: is a video: image ids are of images")
        ids.of(source)
