"""A classifier of colours that is right on every machine, whatever its short training has reached."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fishnet.bundle.bundle import write_bundle
from fishnet.data.classification.transforms import EvalTransform
from fishnet.data.normalize import Normalize
from fishnet.tasks.store import load_model, save_weights
from tests.makers import CLASSES, image

_EACH = 30  # images of a class that the score layer is fitted to
_LOGIT = 4.0  # of the right class; the others have its negative


def make_certain(folder: Path) -> None:
    """Fits the score layer of a bundle's classifier by least squares to images of :func:`~tests.makers.image`.

    The features of the trunk are those of any network, trained or not: plain colours lie far apart in them. The kept
    metrics become those of a classifier that is always right.
    """
    bundle, model = load_model(folder)
    assert bundle.classes.names == CLASSES
    transform, normalize = EvalTransform(bundle.preprocess), Normalize(bundle.preprocess)
    seeds = [(label, 1000 + 50 * label + i) for label in range(len(CLASSES)) for i in range(_EACH)]
    shown = torch.stack([transform(image(CLASSES[label], seed), label)[0] for label, seed in seeds])
    with torch.no_grad():
        features = model.only_head[1].embed(model.features(normalize(shown, None))).double().numpy()
    wanted = np.full((len(seeds), len(CLASSES)), -_LOGIT)
    wanted[range(len(seeds)), [label for label, _ in seeds]] = _LOGIT
    rows = np.hstack([features, np.ones((len(seeds), 1))])
    ridge = 1e-3 * len(seeds) * np.eye(rows.shape[1])
    ridge[-1, -1] = 0
    solved = torch.from_numpy(np.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted).T.copy()).float()
    score = model.trunk.backbone.score.fc
    with torch.no_grad():
        score.weight.copy_(solved[:, :-1].reshape(score.weight.shape))
        score.bias.copy_(solved[:, -1])
    metrics = {**bundle.metrics, "acc@1": 100.0}
    write_bundle(folder, replace(bundle, metrics=metrics), lambda path: save_weights(model, path))
