"""Which files of a folder are images, what is counted, and which links are followed."""

import os
import unicodedata
from pathlib import Path

import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.classification.folder import ImageFolder, split_folders
from fishnet.data.classification.open import open_classification
from fishnet.data.detection.open import open_detection
from fishnet.data.plausibility import note_lines, plausibility, skipped_in
from fishnet.data.quick import quick_findings
from fishnet.errors import InputError
from fishnet.images.scanning import find_images, scan, skipped_line
from tests.detection_makers import voc_folder
from tests.makers import CLASSES, image, image_folder, split_folder

NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))  # type: ignore[arg-type]


def opened(data: Path) -> dict[str, object]:
    return dict(open_classification(str(data), 3, val_fraction=0.25, seed=0, keep_splits=True))


def test_what_is_no_image_is_counted_by_ending(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 5)
    for name in ("a.heic", "b.HEIC", "notes.txt", "LICENSE", "c.tar.gz"):
        (root / "red" / name).write_text("text")
    for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX", "lost+found", "$RECYCLE.BIN"):  # of systems
        (root / "red" / name).mkdir()
        image("red", 1).save(root / "red" / name / "0.png")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (root / "red" / name).write_text("text")
    dataset = ImageFolder(root)
    assert len(dataset) == 15
    assert dataset.skipped == {".heic": 2, ".txt": 1, ".gz": 1, "no extension": 1}
    skipped: dict[str, int] = {}
    assert len(find_images(root)) == 15
    line = "skipped 5 files: 2 .heic, 1 .txt, 1 no extension, 1 .gz"
    splits = {"all": dataset}
    assert sorted(skipped_line(dataset.skipped)) == sorted(line)
    assert [one.code for one in plausibility(splits)] == ["file-skipped-share"]
    assert skipped == {}
    assert note_lines(splits) == []


def test_few_skipped_files_are_a_note(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 40)
    (root / "red" / "readme.txt").touch()
    splits = open_classification(str(root), 3, val_fraction=0.25, seed=0)
    assert skipped_in(splits) == {".txt": 1}, "what was held out is the same folder"
    assert note_lines(splits) == ["skipped 1 file: 1 .txt"]


def test_files_beside_annotated_images(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=6)
    images = data / "JPEGImages"
    for name in ("a.heic", "b.HEIC", "notes.txt", "Thumbs.db"):
        (images / name).touch()
    splits = open_detection(str(data), 3, val_fraction=0.25, seed=0, keep_splits=True)
    assert skipped_in(splits) == {".heic": 2}
    assert "file-skipped-share" in [finding.code for finding in quick_findings(splits)]


def test_system_folders_are_no_classes(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 5)
    for name in ("@eaDir", "__MACOSX", ".cache"):
        (root / name).mkdir()
    assert ImageFolder(root).classes.names == CLASSES
    data = split_folder(tmp_path / "split", train=5, val=2)
    (data / "@eaDir").mkdir()
    assert list(split_folders(data)) == ["train", "val"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"])
def test_images_without_ending_are_known_by_their_bytes(kind: str, tmp_path: Path) -> None:
    image("red", 0).save(tmp_path / "4711", kind)
    (tmp_path / "README").write_text("BM is how bitmaps begin")
    result = scan(tmp_path)
    assert ([path.name for path in result.images], result.skipped) == (["4711"], {"no extension": 1})


def test_an_empty_class_says_what_is_in_its_folder(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2)
    (root / "violet").mkdir()
    (root / "violet" / "0.heic").touch()
    with pytest.raises(InputError, match=r"violet: empty class folder: no image inside \(skipped 1 file: 1 \.heic\)"):
        ImageFolder(root)


def test_images_beside_the_class_folders_are_said(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 5)
    for i in range(2):
        image("red", i).save(root / f"{i}.png")
    [finding] = plausibility({"all": ImageFolder(root)})
    assert (finding.code, finding.count) == ("image-without-class", 2)


@pytest.mark.skipif(NFC.encode() == NFD.encode(), reason="never")
def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2, ("red", "green"))
    (root / "green").rename(root / NFC)
    image_folder(tmp_path / "more", 3, ("green",))
    try:
        (tmp_path / "more" / "green").rename(root / NFD)
    except OSError:
        pytest.skip("a file system that has one form of names")
    dataset = ImageFolder(root)
    assert dataset.classes == Classes.of([NFC, "red"])
    assert dataset.labels == [0] * 5 + [1] * 2
    assert dataset.read(4)[1] == 0
    assert ImageFolder(root, classes=Classes.of(["blue", NFD, "red"])).labels == [1] * 5 + [2] * 2


def test_classes_that_differ_in_case_or_spaces_are_said(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 5)
    image_folder(tmp_path / "more", 5, ("red",))
    (tmp_path / "more" / "red").rename(root / "Red ")
    [finding] = plausibility({"all": ImageFolder(root)})
    assert finding.code == "class-alike"
    assert "'Red ', 'red'" in finding.message


# links


def test_links_to_files_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    pool = image_folder(tmp_path / "pool", 2)
    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in (pool / name).iterdir():
            (tmp_path / "data" / name / path.name).symlink_to(path)
    dataset = ImageFolder(tmp_path / "data")
    assert len(dataset) == 6
    assert dataset.read(0)[0]
    (pool / "red" / "0.png").unlink()
    assert ImageFolder(tmp_path / "data").skipped == {"broken link": 1}


def test_links_to_folders_are_followed_inside_of_the_dataset(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2)
    image_folder(tmp_path / "data" / ".pool", 3)
    (root / "red" / "more").symlink_to(root / ".pool" / "red")
    (root / "violet").symlink_to(root / ".pool" / "green")
    dataset = ImageFolder(root)
    assert (dataset.classes.names, len(dataset), dataset.links) == ((*CLASSES, "violet"), 12, [])
    link = tmp_path / "link"
    link.symlink_to(root)
    assert len(ImageFolder(link)) == 12


def test_linked_folders_that_lead_outside_are_said(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 5)
    image_folder(tmp_path / "elsewhere", 2)
    (root / "red" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "red" / "loop").symlink_to(root)
    dataset = ImageFolder(root)
    assert (len(dataset), sorted(path.name for path in dataset.links)) == (15, ["loop", "more"])
    assert [one.code for one in plausibility({"all": dataset})] == ["link-not-followed"] * 2
    (root / "violet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"violet: is a link to .*elsewhere, outside of .*data"):
        ImageFolder(root)
    data = split_folder(tmp_path / "split", train=2)
    (data / "val").symlink_to(root)
    with pytest.raises(InputError, match="val: is a link"):
        opened(data)


@pytest.mark.parametrize("place", ["/proc/self", "/proc", "/dev", "/sys"])
def test_folders_of_the_system(place: str) -> None:
    if not Path(place).is_dir():
        pytest.skip(f"no {place}")
    with pytest.raises(InputError, match=f"{place}: is a folder of the system"):
        opened(Path(place))


def test_what_is_no_regular_file_is_counted(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data", 2)
    os.mkfifo(root / "red" / "pipe.png")
    os.mkfifo(root / "red" / "pipe")
    dataset = ImageFolder(root)
    assert (len(dataset), dataset.skipped) == (6, {"special file": 2})
