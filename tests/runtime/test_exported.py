"""Descriptions inside exported files, of every schema."""

import json
from dataclasses import replace

import pytest

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.runtime.exported import RAW, Exported

BUNDLE = Bundle.single(
    "segment", "fishnet_nano", Classes.of(("a", "b")), Preprocess((64, 64), fit="whole"), head="body"
)
CURRENT = {
    "schema": 2, "format": "openvino", "precision": "fp16", "outputs": ["logits"], "dynamic_batch": False,
    "size": [64, 96], "min_side": 32, "metrics": None, "bundle": BUNDLE.to_dict(),
}  # fmt: skip
SCHEMA_1 = {
    "schema": 1, "to": "openvino", "precision": "fp16", "outputs": ["logits"], "many": False, "size": [64, 96],
    "least": 32, "metrics": None, "bundle": BUNDLE.to_dict(),
}  # fmt: skip


@pytest.mark.parametrize("text", [CURRENT, SCHEMA_1], ids=["current", "schema 1"])
def test_a_description_is_read_and_written(text: dict[str, object]) -> None:
    exported = Exported.from_text(json.dumps(text))
    assert exported == Exported(BUNDLE, "openvino", precision="fp16", dynamic_batch=False, size=(64, 96), min_side=32)
    assert json.loads(exported.to_text()) == json.loads(json.dumps(CURRENT))
    assert Exported.from_text(replace(exported, size=None).to_text()).size is None


@pytest.mark.parametrize(
    ("task", "head", "outputs"),
    [("instances", "mask-rcnn", ["boxes", "scores", "labels", "masks"]), ("detect", "fcos", list(RAW["fcos"]))],
)
def test_a_dynamic_batch_that_no_export_writes(task: str, head: str, outputs: list[str]) -> None:
    bundle = Bundle.single(task, "fishnet_nano", Classes.of(["a"]), Preprocess((64, 96), fit="whole"), head)
    text = json.dumps({**CURRENT, "bundle": bundle.to_dict(), "outputs": outputs, "dynamic_batch": True})
    with pytest.raises(InputError, match="dynamic batch, which no export writes"):
        Exported.from_text(text)
    assert not Exported.from_text(text.replace('"dynamic_batch": true', '"dynamic_batch": false')).dynamic_batch
