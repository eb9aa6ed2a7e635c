"""The service predicts what the Predictor predicts, for every kind of model."""

import io
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fishnet
from fishnet.images.segment_ids import rgb_to_ids
from fishnet.prediction.results import Panoptic, Scene, Segmentation
from tests.bright import scene
from tests.serve.running import PREDICTORS, encoded, running

IMAGES = [
    scene(96, 64, ((8, 8, 40, 30), "red"), ((50, 20, 80, 60), "green")),
    scene(64, 120, ((4, 60, 30, 100), "green")),
    scene(96, 64, ((8, 8, 40, 30), "dim")),
]


def ids_of(png: str) -> Any:
    return rgb_to_ids(np.asarray(Image.open(io.BytesIO(b64decode(png)))))


def check(values: dict[str, Any], expected: Any) -> None:
    """Compares the JSON of a result with the result."""
    if isinstance(expected, Scene):
        assert values.keys() == expected.parts().keys()
        for name, part in expected.parts().items():
            check(values[name], part)
        return
    png = values.pop("png", None)
    assert values == expected.to_dict()
    if isinstance(expected, Segmentation):
        assert (ids_of(png) == np.array(expected.classes.ids)[expected.labels]).all()
    elif isinstance(expected, Panoptic):
        assert (ids_of(png) == expected.ids).all()
    else:
        assert png is None


@pytest.mark.parametrize("kind", PREDICTORS)
def test_results_equal_those_of_predict(kind: str) -> None:
    predictor = PREDICTORS[kind]()
    with running({kind: predictor}) as client:
        single = client.predict(encoded(IMAGES[0]))
        assert single.status == 200
        check(single.json["results"][0]["result"], predictor.predict(IMAGES[0]))
        many = client.predict(*map(encoded, IMAGES)).json
        assert (many["model"], many["failed"]) == (kind, 0)
        for item, image, number in zip(many["results"], IMAGES, range(3), strict=True):
            assert item["name"] == f"{number}.png"
            check(item["result"], predictor.predict(image))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classify", {"k": 1}),
        ("detect", {"threshold": 0.3}),
        ("detect", {"max_detections": 1}),
        ("instances", {"tile": 48, "overlap": 0.5}),
        ("segment", {"tta": True}),
        ("several", {"k": 2, "threshold": 0.3, "tile": 64}),
        ("panoptic", {"panoptic_score": 0.95, "panoptic_overlap": 0.1, "stuff_area": 3000}),
    ],
)
def test_options(kind: str, options: dict[str, Any]) -> None:
    predictor, query = PREDICTORS[kind](), "&".join(f"{name}={value}" for name, value in options.items())
    with running({kind: predictor}) as client:
        for image in IMAGES:
            answer = client.predict(encoded(image), query=query)
            assert answer.status == 200, answer.content
            check(answer.json["results"][0]["result"], predictor.predict(image, **options))


def test_maps_can_be_left_out() -> None:
    with running({"segment": PREDICTORS["segment"]()}) as client:
        assert "png" in client.predict(encoded(IMAGES[0])).json["results"][0]["result"]
        assert "png" not in client.predict(encoded(IMAGES[0]), query="maps=false").json["results"][0]["result"]


def test_several_models(bundle: Path, folder: Path) -> None:
    with running({"colours": str(bundle), "detect": PREDICTORS["detect"]()}) as client:
        assert client.get("/v1/models").json == {"models": ["colours", "detect"]}
        photo = min(folder.rglob("*.jpg"))
        answer = client.predict(photo.read_bytes()).json
        assert answer["model"] == "colours"
        expected = fishnet.load(bundle, "cpu").predict(photo).to_dict()
        check_scores(answer["results"][0]["result"], expected)
        assert client.predict(encoded(IMAGES[0]), query="model=detect").json["model"] == "detect"
        model = client.get("/v1/model?model=detect").json
        assert model["heads"]["detect"]["classes"] == [{"id": 30, "name": "red"}, {"id": 7, "name": "green"}]
        assert model["limits"]["max_images"] == client.service.limits.max_images
        missing = client.predict(encoded(IMAGES[0]), query="model=cats")
        assert (missing.status, missing.code) == (404, "no_such_model")


def check_scores(values: dict[str, Any], expected: dict[str, Any]) -> None:
    for given, wanted in zip(values["predictions"], expected["predictions"], strict=True):
        assert given["name"] == wanted["name"]
        assert given["score"] == pytest.approx(wanted["score"], abs=1e-5), "batches add up in another order"


def test_one_broken_image_among_several() -> None:
    with running({"detect": PREDICTORS["detect"]()}) as client:
        answer = client.predict(encoded(IMAGES[0]), b"no image", encoded(IMAGES[1])[:80])
        assert (answer.status, answer.json["failed"]) == (200, 2)
        good, unknown, truncated = answer.json["results"]
        assert len(good["result"]["objects"]) == 2
        assert unknown["error"]["code"] == "unsupported_image"
        assert truncated["error"]["code"] == "bad_image"
