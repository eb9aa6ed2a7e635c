"""``fishnet predict --format parquet``."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fishnet.errors import InputError

if TYPE_CHECKING:
    from fishnet.prediction.predictor import Predictor


def predict_parquet(
    predictor: "Predictor",
    sources: Sequence[str],
    out: str | None,
    shard: str,
    part: int,
    column: str | None,
    batch_size: int | None,
    *,
    quiet: bool,
    options: dict[str, Any],
) -> int:
    """Predicts on any number of images; see :class:`fishnet.bulk.job.Job`. Returns the exit code."""
    from fishnet.bulk.job import FAILURES, Job
    from fishnet.bulk.sources import Shard

    if out is None:
        raise InputError("--format parquet: needs --out, a folder or an address such as s3://bucket/folder")
    job = Job(predictor, out, Shard.parse(shard), part)
    for progress in job.run(sources, column, batch_size, **options):
        if not quiet:
            counts = f"{progress.predicted:,} predicted, {progress.failed:,} failed, {progress.skipped:,} done before"
            print(f"{out}: {counts}; {progress.parts:,} parts", flush=True)
    if not (progress.predicted or progress.failed or progress.skipped):
        print(f"fishnet: shard {shard}: none of the images belong to it", file=sys.stderr)
    if progress.failed:
        print(f"fishnet: {progress.failed:,} images failed: the reasons are in {out}/{FAILURES}", file=sys.stderr)
    return 1 if progress.failed else 0
