"""Descriptions inside exported files: the keys in files stay, whatever the fields are called."""

import json
from dataclasses import replace

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.runtime.exported import Exported

BUNDLE = Bundle.single(
    "segment", "fishnet_nano", Classes.of(("a", "b")), Preprocess((64, 64), fit="whole"), head="body"
)
TEXT = {
    "schema": 1, "to": "openvino", "precision": "fp16", "outputs": ["logits"], "many": False, "size": [64, 96],
    "least": 32, "metrics": None, "bundle": BUNDLE.to_dict(),
}  # fmt: skip


def test_keys_in_files_have_not_changed() -> None:
    exported = Exported.from_text(json.dumps(TEXT))
    assert exported == Exported(BUNDLE, "openvino", precision="fp16", dynamic_batch=False, size=(64, 96), min_side=32)
    assert json.loads(exported.to_text()) == json.loads(json.dumps(TEXT))
    assert Exported.from_text(replace(exported, size=None).to_text()).size is None
