"""Boxes and masks stay on their objects through all transforms."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fishnet.bundle.classes import Classes
from fishnet.data.decode import to_tensor
from fishnet.data.detection.base import DetectionDataset, DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.transforms import DetectionEvalTransform, DetectionTrainTransform
from fishnet.data.detection.views import VISIBLE
from fishnet.data.loading import Batch, SeededDataset, collate, seeded_rng
from fishnet.data.photometric import distort
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess

SEEDS = 40
BACK = (124, 116, 104)  # the mean colour: what padding is filled with is no object
PREPROCESS = Preprocess((96, 128), interpolation="nearest", fit="whole")  # nearest: colours stay what they are
PLAIN: dict[str, Any] = {
    "canvas": False,
    "flip": 0.0,
    "flip_vertical": 0.0,
    "jitter": (1.0, 1.0),
    "crop": 0.0,
    "photometric": 0.0,
    "mosaic": 0.0,
    "with_masks": False,
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "jitter": {"jitter": (0.5, 2.0)},
    "canvas": {"canvas": True},
    "large-scale jitter": {"canvas": True, "jitter": (0.2, 4.0), "flip": 0.5},
    "crop": {"crop": 1.0},
    "all": {"canvas": True, "jitter": (0.3, 3.0), "flip": 0.5, "flip_vertical": 0.5, "crop": 0.5},
}


def colour(number: int) -> tuple[int, int, int]:
    return 255, 10 + 10 * number, 0


def painted(
    boxes: list[tuple[int, int, int, int]], size: tuple[int, int], first: int = 0, round_: bool = False
) -> tuple[Image.Image, Objects]:
    """An image of (height, width) with each object in a colour of its own, its number also its label.

    Objects are rectangles; ``round_``: octagons, drawn from their very masks.
    """
    shapes = []
    pixels = np.full((*size, 3), BACK, np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        u, v = ((x2 - x1) / 4, (y2 - y1) / 4) if round_ else (0, 0)
        corners = [x1 + u, y1, x2 - u, y1, x2, y1 + v, x2, y2 - v, x2 - u, y2, x1 + u, y2, x1, y2 - v, x1, y1 + v]
        shapes.append([[float(value) for value in corners]])
        mask = Objects.of([[x1, y1, x2, y2]], [0], size, segmentations=shapes[-1:]).masks()[0]
        pixels[mask > 0] = colour(first + i)
    labels = list(range(first, first + len(boxes)))
    return Image.fromarray(pixels), Objects.of(boxes, labels, size, segmentations=shapes)


APART = [(5, 8, 45, 60), (60, 10, 110, 30), (130, 20, 190, 100), (20, 80, 50, 130), (70, 60, 120, 140)]


def transform(preprocess: Preprocess = PREPROCESS, **options: Any) -> DetectionTrainTransform:
    return DetectionTrainTransform(preprocess, **PLAIN | options)


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def where(page: Tensor, label: int) -> NDArray[np.bool_]:
    """Where on the page an object's colour is."""
    return (page.permute(1, 2, 0).numpy() == colour(label)).all(-1)


def check(page: Tensor, target: DetectionTarget, slack: float = 1.01) -> None:
    """Every box is around its object's colour, and every mask is just that colour.

    Args:
        page: the input.
        target: to check.
        slack: tolerance of edges, px. Sampling at centres moves an edge by up to half a px of the image and half a px
            of the input: 1 if neither is enlarged much.
    """
    height, width = page.shape[1:]
    for i, label in enumerate(target.labels.tolist()):
        place = where(page, label)
        assert place.any(), f"object {label} is in the target but not in the image"
        box = target.boxes[i].numpy()
        np.testing.assert_allclose(box, extent(place), atol=slack)
        assert (box >= 0).all()
        assert (box <= [width, height, width, height]).all()
        if target.masks is not None:
            # a row or column whose centre lies just between two px of the image may show either of them
            assert (target.masks[i].numpy().astype(bool) ^ place).sum() <= max(0.03 * place.sum(), 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("round_", [False, True])
def test_boxes_and_masks_stay_on_their_objects(way: str, round_: bool) -> None:
    image, objects = painted(APART, (150, 200), round_=round_)
    train_transform = transform(with_masks=round_, **WAYS[way])
    pages = set()
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = train_transform(image, objects)
        pages.add(page.numpy().tobytes())
        assert page.dtype == torch.uint8
        assert target.boxes.dtype == torch.float32
        assert (target.labels.dtype, target.crowd.dtype) == (torch.int64, torch.bool)
        assert (
            page.shape[1:] == train_transform.canvas
            if train_transform.fixed
            else all(side % 32 == 0 for side in page.shape[1:])
        )
        if round_:
            assert target.masks is not None
            assert (target.masks.dtype, target.masks.shape) == (torch.uint8, (len(target), *page.shape[1:]))
        else:
            assert target.masks is None
        # An edge moves by up to half a px of the input and half a px of the image; with octagons by as much again, as
        # COCO's filling in takes a corner's px or not.
        options = WAYS[way]
        px = 128 / 200 * options.get("jitter", (1, 1))[1] / (0.3 if "crop" in options else 1)
        check(page, target, 0.51 + px * (1 if round_ else 0.5))
    assert (len(pages) > 1) == bool({"jitter", "crop"} & set(WAYS[way]))


def test_nothing_is_lost_where_nothing_is_cut() -> None:
    image, objects = painted(APART, (150, 200))
    for way in ("plain", "flip", "flip_vertical", "canvas"):
        page, target = transform(**WAYS[way])(image, objects)
        assert target.labels.tolist() == list(range(5))
        check(page, target)


@pytest.mark.parametrize("round_", [False, True])
def test_what_is_cut_stays_while_enough_of_it_is_seen(round_: bool) -> None:
    image, objects = painted(APART, (150, 200), round_=round_)
    train_transform = transform(
        Preprocess((64, 64), interpolation="nearest", fit="whole"), canvas=True, jitter=(3.125, 3.125)
    )
    train_transform.with_masks = round_  # one px of the input is one of the image: its colours can be counted
    cut = dropped = 0
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = train_transform(image, objects)
        assert page.shape == (3, 64, 64)
        for label in range(5):
            seen = where(page, label).sum() / where(to_tensor(image), label).sum()
            assert (label in target.labels) == (seen >= VISIBLE)
            cut += VISIBLE <= seen < 1
            dropped += 0 < seen < VISIBLE
        check(page, target, 0)
    assert min(cut, dropped) > 10


def test_the_box_of_a_cut_mask_is_tight() -> None:
    _, objects = painted([(0, 0, 100, 100)], (100, 100))
    corner = [[0.0, 0, 100, 0, 100, 10, 10, 10, 10, 100, 0, 100]]  # an angle along two edges
    objects = dataclasses.replace(objects, segmentations=(corner,))
    image = Image.new("RGB", (100, 100))
    train_transform = transform(Preprocess((64, 64), fit="whole"), canvas=True, jitter=(1.0, 1.5), with_masks=True)
    tight = 0
    for seed in range(40):
        with seeded_rng(seed):
            _, target = train_transform(image, objects)
        assert target.masks is not None
        for box, mask in zip(target.boxes, target.masks, strict=True):
            np.testing.assert_allclose(box.numpy(), extent(mask.numpy() > 0), atol=1.01)
            tight += bool(box[2] < 60 or box[3] < 60)
    assert tight > 0, "without the angle's other side the box is a narrow one"


def test_a_crop_keeps_an_object_whole() -> None:
    image, objects = painted(APART, (150, 200))
    crops = transform(crop=1.0)
    shapes = set()
    for seed in range(SEEDS):
        with seeded_rng(seed):
            view = crops._single(to_tensor(image), objects)
        left, top, right, bottom = view.window
        assert any(x1 >= left and y1 >= top and x2 <= right and y2 <= bottom for x1, y1, x2, y2 in APART)
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 150
        shapes.add((right - left, bottom - top))
    assert len(shapes) > SEEDS / 2


def test_a_crop_on_a_canvas_keeps_it_too() -> None:
    image, objects = painted([(90, 70, 96, 75)], (150, 200))
    train_transform = transform(crop=1.0, canvas=True, jitter=(2.0, 4.0))
    for seed in range(SEEDS):
        with seeded_rng(seed):
            assert train_transform(image, objects)[1].labels.tolist() == [0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_masks", [False, True])
def test_images_without_objects(way: str, with_masks: bool) -> None:
    image, objects = painted([], (50, 80))
    for others in (0, 3):
        page, target = transform(with_masks=with_masks, **WAYS[way])(image, objects, *[(image, objects)] * others)
        assert (target.boxes.shape, target.labels.shape, target.crowd.shape) == ((0, 4), (0,), (0,))
        assert target.masks is None if not with_masks else target.masks is not None
        if target.masks is not None:
            assert target.masks.shape == (0, *page.shape[1:])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1), (2, 3)])
def test_images_of_any_shape(way: str, shape: tuple[int, int]) -> None:
    height, width = shape
    image = Image.new("RGB", (width, height), (255, 10, 0))
    objects = Objects.of(
        [[0, 0, width, height]], [0], shape, segmentations=[[[0, 0, width, 0, width, height, 0, height]]]
    )
    for seed in range(5):
        for others in ([], [(image, objects)] * 3):
            with seeded_rng(seed):
                page, target = transform(with_masks=True, **WAYS[way])(image, objects, *others)
            assert max(page.shape[1:]) <= 1024
            if not others and len(target):
                check(page, target)


def test_one_px_objects_go_where_they_become_less_than_one() -> None:
    image, objects = painted([(10, 20, 11, 21), (30, 40, 31, 41)], (64, 64))
    for factor, expected in ((1.0, 2), (2.0, 2), (0.4, 0)):
        train_transform = transform(Preprocess((64, 64), interpolation="nearest", fit="whole"), jitter=(factor, factor))
        page, target = train_transform(image, objects)
        assert len(target) == expected
        check(page, target)


def test_crowds() -> None:
    image, objects = painted(APART, (150, 200))
    crowd = dataclasses.replace(objects, crowd=np.array([False, True, False, True, False]))
    _, target = transform(flip=1.0)(image, crowd)
    assert target.crowd.tolist() == [False, True, False, True, False]
    everything = dataclasses.replace(objects, crowd=np.ones(5, bool))
    transform(crop=1.0)(image, everything)  # none that has to be kept whole
    slivers = 0
    train_transform = transform(
        Preprocess((64, 64), interpolation="nearest", fit="whole"), canvas=True, jitter=(3.125, 3.125)
    )
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = train_transform(image, everything)
        seen = [label for label in range(5) if where(page, label).any()]
        assert target.labels.tolist() == seen, "of a crowd anything is kept: nothing there may be called background"
        slivers += len(seen)
    assert slivers > 0


@pytest.mark.parametrize("with_masks", [False, True])
def test_a_mosaic_has_four_images_with_their_objects(with_masks: bool) -> None:
    samples = [painted([(10, 10, 90, 90)], (100, 100), number, round_=with_masks) for number in range(4)]
    train_transform = transform(
        Preprocess((128, 128), interpolation="nearest", fit="whole"), mosaic=1.0, with_masks=with_masks
    )
    train_transform.jitter, train_transform.flip = (0.8, 1.2), (0.5, 0.5)
    centres = set()
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = train_transform(*samples[0], *samples[1:])
        assert page.shape == (3, 128, 128)
        assert sorted(target.labels.tolist()) == [0, 1, 2, 3]
        check(page, target)
        middles = {
            label: box.view(2, 2).mean(0) for label, box in zip(target.labels.tolist(), target.boxes, strict=True)
        }
        assert middles[0][0] < middles[1][0]
        assert middles[0][1] < middles[3][1]
        assert middles[2][0] > middles[3][0]
        assert middles[2][1] > middles[1][1]
        centres.add(tuple(middles[0].tolist()))
    assert len(centres) > SEEDS / 2


def test_photometric_distortion() -> None:
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with seeded_rng(0):
        assert torch.equal(distort(image, 0.0), image)
    changed = []
    for seed in range(20):
        with seeded_rng(seed):
            distorted = distort(image, 1.0)
        with seeded_rng(seed):
            assert torch.equal(distort(image, 1.0), distorted)
        assert (distorted.shape, distorted.dtype) == (image.shape, torch.uint8)
        changed.append(distorted)
    assert len({distorted.numpy().tobytes() for distorted in changed}) == 20
    # Greys stay grey: saturation and hue move none, brightness and contrast all channels alike (1: rounding).
    grey = image[:1].expand(3, -1, -1).contiguous()
    with seeded_rng(0):
        distorted = distort(grey, 1.0).int()
    assert (distorted.amax(0) - distorted.amin(0)).max() <= 1
    assert not torch.equal(distorted.to(torch.uint8), grey)
    one = distort(image[:1], 1.0)
    assert (one.shape, one.dtype) == ((1, 40, 50), torch.uint8)


def test_photometric_distortion_moves_no_box() -> None:
    image, objects = painted(APART, (150, 200))
    for seed in range(10):
        with seeded_rng(seed):
            plain = transform(flip=0.5)(image, objects)
        with seeded_rng(seed):
            distorted = transform(flip=0.5, photometric=1.0)(image, objects)
        assert torch.equal(plain[1].boxes, distorted[1].boxes)
        assert not torch.equal(plain[0], distorted[0])


def test_padding_is_the_mean_colour() -> None:
    image = Image.new("RGB", (200, 100), "black")
    page, _ = transform(canvas=True, photometric=1.0)(image, Objects.of([], [], (100, 200)))
    assert page.shape == (3, 128, 128)
    assert (page[:, 64:].permute(1, 2, 0) == torch.tensor(PREPROCESS.mean_colour)).all()
    assert (page[:, :64] == 0).all()


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    preprocess = Preprocess((64, 64), mean=(0.5,) * channels, std=(0.2,) * channels, fit="whole")
    objects = Objects.of([[5, 5, 20, 20]], [0], (40, 50))
    array = np.full((40, 50, channels), 7, np.float32 if channels == 4 else np.uint8)
    image = array if channels == 4 else Image.fromarray(array[..., 0])
    page, target = transform(preprocess, mosaic=1.0)(image, objects, *[(image, objects)] * 3)
    assert (len(page), page.dtype) == (channels, torch.from_numpy(array).dtype)
    assert target.labels.tolist() == [0] * 4
    if channels == 4:
        with pytest.raises(InputError, match=r"photometric=0\.5: supports grey and RGB, not 4 channels"):
            transform(preprocess, photometric=0.5)
    else:
        transform(preprocess, photometric=0.5)


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="fit 'crop' is not supported for objects and label maps"):
        transform(Preprocess((64, 64)))
    with pytest.raises(InputError, match="fit 'crop' is not supported for objects and label maps"):
        DetectionEvalTransform(Preprocess((64, 64)), False)
    with pytest.raises(InputError, match=r"jitter \(2, 1\): must be"):
        transform(jitter=(2, 1))
    with pytest.raises(InputError, match=r"jitter \(0, 1\): must be"):
        transform(jitter=(0, 1))


@pytest.mark.parametrize(("size", "canvas"), [((64, 64), 64), ((50, 50), 64), ((800, 1333), 1344), ((600, 600), 608)])
def test_the_canvas(size: tuple[int, int], canvas: int) -> None:
    assert transform(Preprocess(size, fit="whole"), canvas=True).canvas == (canvas, canvas)


# in validation


@pytest.mark.parametrize("size", [(96, 128), (300, 400)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_validation_sees_what_prediction_sees(size: tuple[int, int], interpolation: str) -> None:
    preprocess = Preprocess(size, interpolation=interpolation, fit="whole")
    image, objects = painted(APART, (150, 200), round_=True)
    page, target = DetectionEvalTransform(preprocess, True)(image, objects)
    np.testing.assert_array_equal(page.numpy(), preprocess.pixels(image))
    assert target.truth is objects
    assert target.placement == preprocess.place(150, 200)
    assert target.placement is not None
    np.testing.assert_allclose(target.placement.to_image(target.boxes.numpy()), objects.boxes, atol=1e-4)
    assert target.masks is not None
    assert target.masks.shape == (5, *target.placement.outer)
    if interpolation == "nearest":
        check(page, target)


def test_validation_keeps_every_object() -> None:
    image, objects = painted([(10, 20, 11, 21), (0, 0, 400, 300)], (300, 400))
    objects = dataclasses.replace(objects, crowd=np.array([False, True]))
    _, target = DetectionEvalTransform(Preprocess((32, 32), fit="whole"), True)(image, objects)
    assert len(target) == 2
    assert target.crowd.tolist() == [False, True]
    assert DetectionEvalTransform(Preprocess((32, 32), fit="whole"), False)(image, objects)[1].masks is None
    none = painted([], (30, 40))
    assert DetectionEvalTransform(Preprocess((32, 32), fit="whole"), True)(*none)[1].boxes.shape == (0, 4)


# in samples and batches


class Painted(DetectionDataset):
    """Images with one object each; those named as broken cannot be read."""

    channels, with_masks, classes = 3, True, Classes.of(f"c{i}" for i in range(9))

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.entries, self.broken = list(range(count)), broken

    def encoded(self, index: int) -> bytes:
        raise NotImplementedError

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, Objects]:
        if self.entries[index] in self.broken:
            raise InputError(f"{self.source(index)}: broken image")
        torch.rand(3)  # a reader that draws random numbers of its own
        image, objects = painted([(10, 10, 90, 70)], (80 + 10 * index, 100), self.entries[index])
        return to_tensor(image), objects

    def objects(self, index: int) -> Objects:
        return self.read_tensor(index)[1]

    def location(self, index: int, number: int) -> str:
        return self.source(index)

    def source(self, index: int) -> str:
        return f"painted[{self.entries[index]}]"


SEEDED: dict[str, Any] = {"mosaic": 0.5, "jitter": (0.8, 1.2), "flip": 0.5, "crop": 0.2, "with_masks": True}


def same(a: DetectionTarget, b: DetectionTarget) -> bool:
    pairs = [(a.boxes, b.boxes), (a.labels, b.labels), (a.crowd, b.crowd)]
    assert a.masks is not None
    assert b.masks is not None
    return all(torch.equal(x, y) for x, y in [*pairs, (a.masks, b.masks)])


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    keys = [(epoch, index) for epoch in range(3) for index in range(8)]
    once = {key: SeededDataset(Painted(8), transform(**SEEDED), 5)[key] for key in keys}
    torch.manual_seed(99)
    data = SeededDataset(Painted(8), transform(**SEEDED), 5)
    mosaics = 0
    for key in reversed(keys):
        sample, before = data[key], once[key]
        assert isinstance(sample, tuple)
        assert isinstance(before, tuple)
        assert torch.equal(sample[0], before[0])
        assert same(sample[1], before[1])
        mosaics += len(sample[1]) > 1
    assert 4 < mosaics < 20
    assert not torch.equal(once[0, 1][0], once[1, 1][0])  # type: ignore[index]


def test_a_partner_that_cannot_be_read_makes_no_mosaic() -> None:
    intact = SeededDataset(Painted(2), transform(mosaic=1.0), 1)
    with_broken = SeededDataset(Painted(2, broken=(1,)), transform(mosaic=1.0), 1)
    counts = set()
    for epoch in range(40):
        sample = with_broken[epoch, 0]
        assert isinstance(sample, tuple)
        assert len(intact[epoch, 0][1]) == 4  # type: ignore[index, arg-type]
        counts.add(len(sample[1]))
        check(sample[0], sample[1]) if len(sample[1]) == 1 else None
    assert counts == {1, 4}, "four where the drawn ones are good ones by chance"
    assert with_broken[0, 1] == "painted[1]: broken image"


def test_partners() -> None:
    assert transform().partners(10) == []
    drawn = [transform(mosaic=1.0).partners(10) for _ in range(50)]
    assert all(len(partners) == 3 for partners in drawn)
    assert {index for partners in drawn for index in partners} == set(range(10))
    assert transform(mosaic=1.0).partners(1) == [0, 0, 0]


def test_a_batch_of_unequal_images() -> None:
    data = SeededDataset(Painted(4), transform(), 0)
    samples = [data[0, index] for index in range(4)]
    batch = collate([*samples, "x: broken"], fill=(1, 2, 3))
    assert isinstance(batch, Batch)
    shapes = [sample[0].shape for sample in samples if isinstance(sample, tuple)]
    assert len(set(shapes)) > 1
    height, width = max(shape[1] for shape in shapes), max(shape[2] for shape in shapes)
    assert batch.images.shape == (4, 3, height, width)
    assert batch.images.stride()[1] == 1, "channels last in memory"
    assert isinstance(batch.targets, list)
    assert (batch.indices, batch.broken) == ([0, 1, 2, 3], ["x: broken"])
    for image, sample, target in zip(batch.images, samples, batch.targets, strict=True):
        assert isinstance(sample, tuple)
        own = sample[0]
        assert target is sample[1]
        assert torch.equal(image[:, : own.shape[1], : own.shape[2]], own)
        for beyond in (image[:, own.shape[1] :], image[:, :, own.shape[2] :]):
            assert (beyond == torch.tensor([1, 2, 3])[:, None, None]).all()


def test_batches_pin_what_can_be_pinned() -> None:
    class Pinned:
        def pin_memory(self) -> str:
            return "pinned"

    batch = Batch(Pinned(), [Pinned(), "as it is"], [0, 1], [])  # type: ignore[arg-type]
    assert batch.pin_memory().targets == ["pinned", "as it is"]
    assert Batch(Pinned(), Pinned(), [0], []).pin_memory().targets == "pinned"  # type: ignore[arg-type]


def test_targets_move_with_all_they_hold() -> None:
    image, objects = painted(APART, (150, 200))
    _, target = DetectionEvalTransform(PREPROCESS, True)(image, objects)
    moved = target.to("meta")
    assert moved.masks is not None
    assert {part.device.type for part in (moved.boxes, moved.labels, moved.crowd, moved.masks)} == {"meta"}
    assert moved.truth is objects
    assert moved.placement == target.placement
