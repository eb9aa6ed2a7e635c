"""Every px keeps its label, whatever happens to an image on its way into a batch."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fishnet.bundle.classes import Classes
from fishnet.data.decode import to_tensor
from fishnet.data.loading import Batch, SeededDataset, collate, seeded_rng
from fishnet.data.segmentation.base import IGNORE, LabelMap, SegmentationDataset, SegmentationTarget
from fishnet.data.segmentation.transforms import TRIES, SegmentationEvalTransform, SegmentationTrainTransform
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike
from fishnet.images.preprocess import Preprocess

SEEDS = 30
PREPROCESS = Preprocess((96, 128), interpolation="nearest", fit="whole")  # nearest: colours stay what they are
NATIVE = Preprocess((96, 96), fit="native")
PLAIN: dict[str, Any] = {
    "crop_size": 96,
    "flip": 0.0,
    "flip_vertical": 0.0,
    "jitter": (1.0, 1.0),
    "single_class": 1.0,
    "photometric": 0.0,
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "jitter": {"jitter": (0.5, 2.0)},
    "small crops": {"crop_size": 64},
    "padded": {"crop_size": 200},
    "all": {"flip": 0.5, "flip_vertical": 0.5, "jitter": (0.3, 3.0), "single_class": 0.3},
}
MEAN = torch.tensor(PREPROCESS.mean_colour)


def told(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """An image whose px say their labels: (height, width, 3)."""
    return np.stack([labels, labels // 2, 255 - labels], -1).astype(np.uint8)


def coded(size: tuple[int, int], seed: int = 0) -> tuple[Image.Image, LabelMap]:
    """An image of (height, width) that says its labels, 0 to 254 in blocks of some px, one in ten ignored."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 255, (-(-size[0] // 3), -(-size[1] // 3)), dtype=np.uint8)
    blocks[random.random(blocks.shape) < 0.1] = IGNORE
    labels = np.ascontiguousarray(np.kron(blocks, np.ones((3, 3), np.uint8))[: size[0], : size[1]])
    return Image.fromarray(told(labels)), labels


def transform(preprocess: Preprocess = PREPROCESS, **options: Any) -> SegmentationTrainTransform:
    return SegmentationTrainTransform(preprocess, **PLAIN | options)


def disagreeing(page: Tensor, target: SegmentationTarget) -> float:
    """The share of labelled px, and of those of the image that are to be ignored, whose colour says another label."""
    labels = target.labels.numpy()
    colours = page.permute(1, 2, 0).numpy()
    beyond = (colours == MEAN.numpy()).all(-1)  # no label's colour
    assert (labels[beyond] == IGNORE).all()
    return float((colours[~beyond] != told(labels[~beyond])).any(-1).mean())


# in training


@pytest.mark.parametrize("way", WAYS)
def test_labels_stay_on_their_px(way: str) -> None:
    """At some scales two px of the image are equally near: torch's nearest and ours may then differ in two rows."""
    image, labels = coded((150, 200))
    ours = transform(**WAYS[way])
    pages, worst = set(), []
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = ours(image, labels)
        side = {"small crops": 64, "padded": 224}.get(way, 96)
        assert page.shape == (3, side, side)
        assert page.dtype == torch.uint8
        assert page.stride()[0] == 1, "channels last in memory"
        assert (target.labels.shape, target.labels.dtype) == ((side, side), torch.uint8)
        assert target.truth is None
        assert target.placement is None
        assert len(np.unique(target.labels.numpy())) > 20
        worst.append(disagreeing(page, target))
        pages.add(page.numpy().tobytes())
    assert max(worst) < 2 / 28  # a page shows 0.3 * 96 rows at least
    assert np.median(worst) == 0
    assert (len(pages) > 1) == (way != "padded")


def test_a_mirrored_image_has_mirrored_labels() -> None:
    image, labels = coded((80, 96))
    plain, wanted = transform(NATIVE)(image, labels)
    for flip, axis in (("flip", -1), ("flip_vertical", -2)):
        page, target = transform(NATIVE, **{flip: 1.0})(image, labels)
        # the image's part lies in the corner either way; what is padded is not mirrored
        assert torch.equal(page[:, :80], plain[:, :80].flip(axis))
        assert torch.equal(target.labels[:80], wanted.labels[:80].flip(axis))
        assert (target.labels[80:] == IGNORE).all()


def test_a_crop_in_native_size_is_cut_out_and_nothing_else() -> None:
    image, labels = coded((300, 400))
    array, places = np.asarray(image), set()
    for seed in range(SEEDS):
        with seeded_rng(seed):
            page, target = transform(NATIVE)(image, labels)
        found = target.labels.numpy()
        tops, lefts = np.nonzero((array[: 300 - 95, : 400 - 95] == page[:, 0, 0].numpy()).all(-1))
        cuts = [(y, x) for y, x in zip(tops, lefts, strict=True) if (labels[y : y + 96, x : x + 96] == found).all()]
        assert len(cuts) == 1
        (y, x) = cuts[0]
        np.testing.assert_array_equal(page.permute(1, 2, 0).numpy(), array[y : y + 96, x : x + 96])
        places.add((int(y), int(x)))
    assert len(places) == SEEDS
    for axis, high in ((0, 204), (1, 304)):  # everywhere: 30 draws leave no quarter of the range out
        drawn = [place[axis] for place in places]
        assert min(drawn) < high / 4
        assert max(drawn) > 3 * high / 4


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_what_is_not_there_is_ignored_and_of_the_mean_colour(interpolation: str) -> None:
    preprocess = Preprocess((64, 64), interpolation=interpolation, fit="whole")
    image, labels = Image.new("RGB", (100, 50), "black"), np.full((50, 100), 3, np.uint8)
    page, target = transform(preprocess, photometric=1.0, flip=1.0)(image, labels)
    assert (page[:, :32, :64] == 0).all()
    assert (target.labels[:32, :64] == 3).all()
    for part in (page[:, 32:], page[:, :, 64:]):
        assert (part.permute(1, 2, 0) == MEAN).all()
    for part in (target.labels[32:], target.labels[:, 64:]):
        assert (part == IGNORE).all()


def test_jitter_is_even_in_its_logarithm() -> None:
    """A square's side on the page is its factor's: half of all factors from 1/2 to 2 lie below 1."""
    image, labels = Image.new("RGB", (96, 96)), np.full((96, 96), 1, np.uint8)
    sides = []
    for seed in range(300):
        with seeded_rng(seed):
            _, target = transform(crop_size=192, jitter=(0.5, 2.0))(image, labels)
        sides.append(int((target.labels == 1).any(0).sum()))
    assert 48 <= min(sides) < 52
    assert 184 < max(sides) <= 192
    assert abs(np.mean(np.array(sides) < 96) - 0.5) < 0.1  # three standard deviations of 300 draws


def test_photometric_distortion_moves_no_label() -> None:
    image, labels = coded((150, 200))
    for seed in range(10):
        with seeded_rng(seed):
            plain = transform(flip=0.5)(image, labels)
        with seeded_rng(seed):
            found = transform(flip=0.5, photometric=1.0)(image, labels)
        assert torch.equal(plain[1].labels, found[1].labels)
        assert not torch.equal(plain[0], found[0])


def corner() -> tuple[Image.Image, LabelMap]:
    """An image of ground, but for a corner of 60 px square."""
    labels = np.zeros((300, 300), np.uint8)
    labels[:60, :60] = 1
    return Image.fromarray(told(labels)), labels


def shares(single_class: float, labels: LabelMap, count: int = 60) -> list[float]:
    found = []
    ours = transform(NATIVE, single_class=single_class)
    for seed in range(count):
        with seeded_rng(seed):
            drawn = ours(Image.fromarray(told(labels)), labels)[1].labels
        counts = np.bincount(drawn.numpy().ravel(), minlength=256)[:IGNORE]
        found.append(float(counts.max() / max(counts.sum(), 1)))
    return found


def test_crops_of_one_class_are_avoided() -> None:
    """Of all crops at random one in twelve has a share of the corner large enough: (60 - 96 * 0.1)^2 / 205^2. Of ten
    tries each, half find one."""
    _, labels = corner()
    found = {share: np.mean(np.array(shares(share, labels)) <= 0.95) for share in (1.0, 0.95)}
    assert found[1.0] < 0.2
    assert found[0.95] > found[1.0] + 0.25
    assert found[0.95] < 1, f"at most {TRIES} tries"


def test_ignored_px_are_no_class_of_a_crop() -> None:
    """A crop of one class beside ignored px is one of a single class; one of ignored px alone is the worst."""
    half = np.full((96, 300), IGNORE, np.uint8)
    half[:, :150] = 0
    half[:48, :150] = 1
    for seed in range(SEEDS):
        with seeded_rng(seed):
            assert (transform(NATIVE, single_class=0.9)(Image.new("RGB", (300, 96)), half)[1].labels < 2).any()
    ignored = np.full((300, 300), IGNORE, np.uint8)
    assert (transform(NATIVE, single_class=0.5)(Image.new("RGB", (300, 300)), ignored)[1].labels == IGNORE).all()


def test_a_large_crops_share_is_that_of_some_of_its_px() -> None:
    labels = np.zeros((2400, 2400), np.uint8)
    labels[:, 1200:] = 1
    ours = transform(Preprocess((2048, 2048), fit="native"), crop_size=2048, single_class=0.6)
    for seed in range(3):
        with seeded_rng(seed):
            drawn = ours(Image.fromarray(labels).convert("RGB"), labels)[1].labels.numpy()
        assert np.bincount(drawn.ravel(), minlength=2)[:2].max() <= 0.61 * drawn.size


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1), (2, 3)])
def test_images_of_any_shape(way: str, shape: tuple[int, int]) -> None:
    for preprocess in (PREPROCESS, NATIVE):
        labels = np.full(shape, 7, np.uint8)
        for seed in range(3):
            with seeded_rng(seed):
                page, target = transform(preprocess, **WAYS[way])(Image.new("RGB", shape[::-1]), labels)
            assert page.shape[1:] == target.labels.shape
            assert (target.labels == 7).any()


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    preprocess = Preprocess((64, 128), mean=(0.5,) * channels, std=(0.2,) * channels, fit="whole")
    labels = np.full((40, 50), 2, np.uint8)
    array = np.full((40, 50, channels), 7, np.float32 if channels == 4 else np.uint8)
    image = array if channels == 4 else Image.fromarray(array[..., 0])
    page, target = transform(preprocess, flip=1.0)(image, labels)
    assert (page.shape, page.dtype) == ((channels, 96, 96), torch.from_numpy(array).dtype)
    there = target.labels == 2
    assert there.sum() == 64 * 80
    assert (page[:, there] == 7).all()
    assert (page[:, ~there] == 128).all()
    if channels == 4:
        with pytest.raises(InputError, match=r"photometric=0\.5: supports grey and RGB, not 4 channels"):
            transform(preprocess, photometric=0.5)
    else:
        transform(preprocess, photometric=0.5)(image, labels)


def test_what_cannot_be() -> None:
    for make in (transform, SegmentationEvalTransform):
        with pytest.raises(InputError, match="fit 'crop' is not supported for objects and label maps"):
            make(Preprocess((64, 64)))  # type: ignore[operator]
    for jitter in ((2, 1), (0, 1)):
        with pytest.raises(InputError, match=r"jitter .*: must be the smallest and the largest factor"):
            transform(jitter=jitter)


@pytest.mark.parametrize(("size", "side"), [(32, 64), (64, 64), (65, 96), (512, 512), (769, 800)])
def test_the_crops_side(size: int, side: int) -> None:
    assert transform(crop_size=size).side == side


# in validation


@pytest.mark.parametrize("fit", ["whole", "native"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(150, 200), (96, 128), (33, 470), (1, 1)])
def test_validation_sees_what_prediction_sees(shape: tuple[int, int], interpolation: str, fit: Any) -> None:
    preprocess = Preprocess((96, 128), interpolation=interpolation, fit=fit)
    image, labels = coded(shape)
    page, target = SegmentationEvalTransform(preprocess)(image, labels)
    np.testing.assert_array_equal(page.numpy(), preprocess.pixels(image))
    place = preprocess.place(*shape)
    assert target.placement == place
    assert target.truth is labels
    assert target.labels.shape == page.shape[1:] == place.outer
    height, width = place.inner
    for beyond in (target.labels[height:], target.labels[:, width:]):
        assert (beyond == IGNORE).all()
    if fit == "native":
        np.testing.assert_array_equal(target.labels[:height, :width].numpy(), labels)
    if interpolation == "nearest" or fit == "native":
        assert disagreeing(page, target) < 0.01


def test_validation_draws_nothing() -> None:
    image, labels = coded((50, 60))
    ours = SegmentationEvalTransform(PREPROCESS)
    with seeded_rng(0):
        once = ours(image, labels)
        state = torch.get_rng_state()
    with seeded_rng(0):
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(once[0], ours(image, labels)[0])


# in samples and batches


class Coded(SegmentationDataset):
    """Images that say their labels; those named as broken cannot be read."""

    channels, classes = 3, Classes.of(f"c{i}" for i in range(IGNORE))

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.entries, self.broken = list(range(count)), broken

    def encoded(self, index: int) -> bytes:
        raise NotImplementedError

    def read(self, index: int) -> tuple[ImageLike, LabelMap]:
        if self.entries[index] in self.broken:
            raise InputError(f"{self.source(index)}: broken image")
        return coded((80 + 10 * index, 100), self.entries[index])

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, LabelMap]:
        torch.rand(3)  # a reader that draws random numbers of its own
        image, labels = self.read(index)
        return to_tensor(image), labels

    def label_map(self, index: int) -> LabelMap:
        return self.read(index)[1]

    def location(self, index: int) -> str:
        return self.source(index)

    def source(self, index: int) -> str:
        return f"coded[{self.entries[index]}]"


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    keys = [(epoch, index) for epoch in range(3) for index in range(6)]
    ours = transform(**WAYS["all"], photometric=0.5)
    once = {key: SeededDataset(Coded(6), ours, 5)[key] for key in keys}
    torch.manual_seed(99)
    data = SeededDataset(Coded(6), ours, 5)
    for key in reversed(keys):
        sample, before = data[key], once[key]
        assert isinstance(sample, tuple)
        assert isinstance(before, tuple)
        assert torch.equal(sample[0], before[0])
        assert torch.equal(sample[1].labels, before[1].labels)
    assert not torch.equal(once[0, 1][0], once[1, 1][0])  # type: ignore[index, arg-type]
    other = SeededDataset(Coded(6), ours, 6)[0, 1]
    assert not torch.equal(once[0, 1][0], other[0])  # type: ignore[index, arg-type]


def test_a_batch_of_unequal_images() -> None:
    data = SeededDataset(Coded(4, broken=(3,)), SegmentationEvalTransform(NATIVE), 0)
    samples = [data[0, index] for index in range(4)]
    batch = collate(samples, fill=(1, 2, 3))
    assert isinstance(batch, Batch)
    assert (batch.indices, batch.broken) == ([0, 1, 2], ["coded[3]: broken image"])
    assert batch.images.shape == (3, 3, 128, 128)
    for image, target in zip(batch.images, batch.targets, strict=True):
        height, width = target.placement.outer
        assert target.labels.shape == (height, width)
        for beyond in (image[:, height:], image[:, :, width:]):
            assert (beyond == torch.tensor([1, 2, 3])[:, None, None]).all()
    assert {target.placement.outer for target in batch.targets} == {(96, 128), (128, 128)}


def test_targets_move_with_all_they_hold() -> None:
    _, target = SegmentationEvalTransform(PREPROCESS)(*coded((150, 200)))
    moved = target.to("meta")
    assert moved.labels.device.type == "meta"
    assert moved.truth is target.truth
    assert moved.placement == target.placement


def test_frequencies_count_px_and_skip_what_cannot_be_read() -> None:
    found, totals = Coded(4, broken=(1,)).frequencies()
    maps = [coded((80 + 10 * index, 100), index)[1] for index in (0, 2, 3)]
    for number in (0, 7, 254):
        assert found[number] == sum(int((one == number).sum()) for one in maps)
        assert totals[number] == sum(int((one != IGNORE).sum()) for one in maps if (one == number).any())
    assert found.sum() == sum(int((one != IGNORE).sum()) for one in maps)
    assert found.shape == totals.shape == (IGNORE,)
