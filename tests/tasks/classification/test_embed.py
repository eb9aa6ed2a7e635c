"""Embeddings: the classifier's input."""

import numpy as np
import pytest
import torch

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.engine import TorchEngine
from fishnet.tasks.head import Head
from fishnet.tasks.model import Model, ModelSpec

CLASSES = Classes.of(("blue", "green", "red"))
SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
NETS = {
    "fishnet_nano": {}, "resnet18": {}, "convnext_atto": {}, "mobilenetv3_small_050": {}, "regnetx_002": {},
    "swin_tiny_patch4_window7_224": SWIN,
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_an_embedding_times_the_classifiers_weights_gives_the_scores(name: str) -> None:
    model = Model.build(ModelSpec.single("classify", name, CLASSES, backbone_args=NETS[name]))
    engine = TorchEngine(Bundle.single("classify", name, CLASSES, Preprocess((64, 64))), model, "cpu")
    passes = []
    features = model.features
    model.features = lambda images: passes.append(len(images)) or features(images)  # type: ignore[method-assign, func-returns-value]
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    outputs, embeddings = engine.embed(batch)
    assert passes == [2], "the trunk runs once"
    assert embeddings.dtype == np.float32
    layer = model.trunk.backbone.get_classifier()  # type: ignore[operator]
    assert embeddings.shape == (2, layer.in_features)
    again = torch.nn.functional.linear(torch.from_numpy(embeddings), layer.weight, layer.bias)
    np.testing.assert_allclose(again.detach().numpy(), outputs, atol=1e-5)
    np.testing.assert_allclose(engine(batch), outputs, atol=1e-6)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-4


def test_a_model_without_embeddings_says_so() -> None:
    with pytest.raises(InputError, match="has no embeddings"):
        Head.embed(None, None)  # type: ignore[arg-type]
