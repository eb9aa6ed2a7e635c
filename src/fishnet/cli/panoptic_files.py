"""The writer of panoptic segments in COCO's format."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fishnet.bundle.panoptic import PanopticConfig
from fishnet.cli.writers import FreeNames, ImageIds
from fishnet.files.writing import GrowingText
from fishnet.prediction.results import Panoptic, Result


class PanopticFiles:
    """Writes ``panoptic/NAME.png`` for each image or frame, and one ``panoptic.json``, in COCO's panoptic format.

    The JSON has ``annotations`` (image_id, file_name of the PNG, segments_info), ``images`` (id, file_name, width,
    height) and ``categories`` (id, name, isthing). It appears at the end. If an exception ends the work, what there is
    stays in ``panoptic.json.partial``.

    Args:
        folder: where the file and the folder ``panoptic`` go.
        sources: everything that is predicted; none of these files is overwritten.
        config: the segment classes.
        ids: the ids of the images; by default they are numbered 1, 2, ... in order.
    """

    def __init__(
        self, folder: Path, sources: Sequence[str], config: PanopticConfig, ids: ImageIds | None = None
    ) -> None:
        self.config, self.ids = config, ids
        self.names = FreeNames(folder / "panoptic", sources)
        self.names.folder.mkdir(parents=True, exist_ok=True)
        self.file = GrowingText(folder / "panoptic.json")
        self.images: list[dict[str, Any]] = []
        self.file.write('{"annotations": [')

    def add(self, source: str, result: Result | None) -> None:
        """Adds the segments of one image.

        Raises:
            WorkError: a full disk, or a path that cannot be written to.
        """
        assert isinstance(result, Panoptic)
        image: dict[str, Any] = (
            {"id": len(self.images) + 1, "file_name": source} if self.ids is None else self.ids.of(source)
        )
        path = self.names.take(source)
        result.write_png(path)
        segments = result.to_dict()["segments_info"]
        entry = {"image_id": image["id"], "file_name": path.name, "segments_info": segments}
        self.file.write(f"{',' if self.images else ''}\n{json.dumps(entry, allow_nan=False)}")
        self.images.append({**image, "width": result.size[1], "height": result.size[0]})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            categories = [
                {"id": one.id, "name": one.name, "isthing": int(one.is_thing)} for one in self.config.segments
            ]
            self.file.write(f'\n], "images": {json.dumps(self.images)}, "categories": {json.dumps(categories)}}}\n')
        self.file.__exit__(kind, error, trace)
