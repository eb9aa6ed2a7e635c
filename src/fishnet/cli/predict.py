"""``fishnet predict BUNDLE SOURCE...``."""

import csv
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from PIL import Image

from fishnet.errors import InputError


def predict(
    bundle: str,
    /,
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: Path | None = None,
    overlay: Annotated[bool, Parameter(negative=())] = False,
    as_: Annotated[Literal["table", "jsonl", "csv"], Parameter(name="--as")] = "table",
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    embed: Path | None = None,
    top: int = 5,
    batch_size: int = 32,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    quiet: bool = False,
) -> int:
    """Predict pictures: files, folders, glob patterns, or - for a list of files on standard input.

    Files that cannot be read are reported at the end and the rest is finished; the exit code is then 1.

    Parameters
    ----------
    bundle
        The folder that training wrote.
    sources
        What to predict.
    out
        Folder for overlays and for predictions.jsonl / predictions.csv. Default: print only.
    overlay
        Save each picture with its result drawn on it, into --out or else into predictions/.
    as_
        How to print: table, jsonl (one JSON object a line) or csv.
    as_json
        The same as --as jsonl.
    embed
        File for the pictures' embeddings (what the network knows of each before its last layer): .npy, float32 of shape
        (pictures, dims) with the sources in FILE.npy.txt, or .parquet with the columns source and embedding.
    top
        How many classes to give per picture.
    batch_size
        Pictures a step.
    device
        Where to compute.
    quiet
        Print nothing but errors (with --out).
    """
    from fishnet.cli.embeddings import EmbeddingFile
    from fishnet.predict import Failure, find_sources, load

    if not sources:
        raise InputError("nothing to predict: name files, folders, patterns, or - for a list on standard input")
    for source in sources:  # a leading hyphen is let through for the sake of "-" alone
        if source.startswith("-") and source != "-":
            raise InputError(f"unknown option {source}: see fishnet predict --help (a file of that name is ./{source})")
    if top < 1 or batch_size < 1:
        raise InputError("--top and --batch-size must be 1 or more")
    form = "jsonl" if as_json else as_
    files = find_sources(sources)
    folder = out or (Path("predictions") if overlay else None)
    predictor = load(bundle, device)
    embeddings = EmbeddingFile(embed) if embed is not None else None
    writer = Writer(form, folder, quiet)
    overlays = OverlayNames(folder, files) if overlay and folder is not None else None
    failures = []
    keep = None if embeddings is None else embeddings.add
    with embeddings or nullcontext():
        for source, result in predictor.stream(files, batch_size, embedding=keep, k=top):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            writer.write(source, result)
            if overlays is not None:
                result.draw(_view(source, predictor.bundle.preprocess.channels)).save(overlays.take(source))
        writer.close()
        for failure in failures:
            print(f"fishnet: {failure.reason}", file=sys.stderr)
    if not quiet and form == "table":
        for place in (folder, embed):
            if place is not None:
                print(f"saved in {place}")
    return 1 if failures else 0


def _view(source: str, channels: int) -> Image.Image:
    """A picture to draw on: in colour where it has any, also for a model of grey input."""
    from fishnet.data.pictures import as_view, read_picture

    try:
        return read_picture(source)
    except InputError:  # of other channels than 1 and 3
        return as_view(read_picture(source, channels))


class Writer:
    """Prints results as they come, and keeps them in a file where a folder is given."""

    def __init__(self, form: str, folder: Path | None, quiet: bool) -> None:
        self.form, self.quiet = form, quiet
        self.file = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            name = "predictions.csv" if form == "csv" else "predictions.jsonl"
            self.file = (folder / name).open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.started = False

    def write(self, source: str, result: Any) -> None:
        """One picture's result."""
        rows = [{"source": source, "rank": i + 1, **row} for i, row in enumerate(result.rows())]
        line = json.dumps({"source": source, **result.to_dict()})  # ASCII: readable whatever the stream's encoding
        if self.form == "csv":
            for stream in self._streams():
                table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
                if not self.started:
                    table.writeheader()
                table.writerows(rows)
        else:
            if self.file is not None:
                print(line, file=self.file)
            if not self.quiet:
                print(line if self.form == "jsonl" else _table_line(source, rows), flush=True)
        self.started = True

    def _streams(self) -> list[Any]:
        return [stream for stream in (self.file, None if self.quiet else sys.stdout) if stream is not None]

    def close(self) -> None:
        """Ends the file."""
        if self.file is not None:
            self.file.close()


def _table_line(source: str, rows: list[dict[str, Any]], shown: int = 3) -> str:
    return f"{source}: " + ", ".join(f"{row['name']} {100 * row['score']:.1f} %" for row in rows[:shown])


class OverlayNames:
    """A free file name in a folder for each overlay: never that of a picture being predicted, never one twice."""

    def __init__(self, folder: Path, sources: list[str]) -> None:
        self.folder, self.taken = folder, {Path(source).resolve() for source in sources}

    def take(self, source: str) -> Path:
        """``photo.png`` for ``photo.jpg``, or ``photo-2.png``, ``photo-3.png`` ..."""
        number, path = 1, self.folder / f"{Path(source).stem}.png"
        while path.resolve() in self.taken:
            number += 1
            path = self.folder / f"{Path(source).stem}-{number}.png"
        self.taken.add(path.resolve())
        return path
