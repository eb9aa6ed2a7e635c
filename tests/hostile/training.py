"""Wrong uses of ``fishnet train``: each ends before the first step, in one line."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import Case
from tests.makers import image_folder

_FAST = (
    "--backbone", "fishnet_nano", "--size", "32", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--quiet",
)  # fmt: skip


def _with(*flags: str, before: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list[str]]:
    """Class folders and flags; ``before`` writes further files. Paths among the flags are below the case's folder."""

    def write(folder: Path) -> list[str]:
        image_folder(folder / "data", per_class=3)
        before(folder)
        known = dict(zip(_FAST[::2], _FAST[1::2], strict=False))
        kept = [word for name, value in known.items() if name not in flags for word in (name, value)]
        kept = [word for word in kept if word != "--quiet"]
        out = [] if "--out" in flags or "--resume" in flags else ["--out", "run"]
        return ["train", "classify", "data", *kept, "--quiet", *out, *flags]

    return write


def _recipe(text: str | bytes) -> Callable[[Path], list[str]]:
    content = text if isinstance(text, bytes) else text.encode()
    return _with("--recipe", "r.yaml", before=lambda folder: (folder / "r.yaml").write_bytes(content))


def _bundle_without_weights(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "config.json").write_text(json.dumps({"schema": 3}))


def _half_a_training(folder: Path) -> None:
    (folder / "old" / "checkpoints").mkdir(parents=True)
    (folder / "old" / "recipe.yaml").write_text("epochs: 3\nbackbone: fishnet_nano\nsize: 32\n")
    (folder / "old" / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 half a checkpoint")


CASES = [
    Case("recipe-not-yaml", _recipe("epochs: [3\n"), 2, ("r.yaml",)),
    Case("recipe-a-list", _recipe("- epochs\n- 3\n"), 2, ("r.yaml", "KEY: VALUE")),
    Case("recipe-unknown-key", _recipe("epoch: 3\n"), 2, ("unknown key 'epoch'", "epochs")),
    Case("recipe-of-another-task", _recipe("mosaic: 0.5\n"), 2, ("mosaic", "not for classify")),
    Case("recipe-not-text", _recipe(b"\xff\xfe\x00epochs"), 2, ("r.yaml",)),
    Case("recipe-wrong-type", _recipe("epochs: many\n"), 2, ("r.yaml", "epochs='many'")),
    Case("recipe-runs-nothing", _recipe("epochs: !!python/object/apply:os.system ['touch ran']\n"), 2, ("r.yaml",)),
    Case("recipe-bomb", _recipe("a: &a [x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    )), 2, ("r.yaml",)),
    Case("recipe-key-twice", _recipe("epochs: 3\nepochs: 4\n"), 2, ("r.yaml line 2", "'epochs' comes twice")),
    Case("recipe-missing", _with("--recipe", "nowhere.yaml"), 2, ("nowhere.yaml",)),
    Case("recipe-unknown-name", _with("--recipe", "small-dat"), 2, ("unknown recipe 'small-dat'", "small-data")),
    Case("flag-unknown", _with("--epoch", "3"), 2, ("--epoch",)),
    Case("lr-nan", _with("--lr", "nan"), 2, ("lr",)),
    Case("lr-infinite", _with("--lr", "inf"), 2, ("lr",)),
    Case("lr-negative", _with("--lr=-1"), 2, ("lr",)),
    Case("epochs-zero", _with("--epochs", "0"), 2, ("epochs=0",)),
    Case("size-huge", _with("--size", "100000"), 2, ("size=100000",)),
    Case("batch-size-text", _with("--batch-size", "some"), 2, ("some",)),
    Case("workers-many", _with("--workers", "1000000"), 2, ("workers=1000000",)),
    Case("backbone-unknown", _with("--backbone", "fishnet_nan0"), 2, ("fishnet_nan0", "fishnet_nano")),
    Case("head-unknown", _with("--head", "faster-rcnn"), 2, ("unknown head 'faster-rcnn' for classify",)),
    Case("optimizer-unknown", _with("--optimizer", "adamwww"), 2, ("adamwww",)),
    Case("mixup-nan", _with("--mixup", "nan"), 2, ("mixup",)),
    Case("weights-missing", _with("--weights", "nowhere.pth"), 2, ("nowhere.pth",)),
    Case("weights-empty-name", _with("--weights", ""), 2, ("weights", "empty")),
    Case("weights-a-folder", _with("--weights", "data"), 2, ("data: not a bundle",)),
    Case("weights-text", _with("--weights", "w.pth", before=lambda f: (f / "w.pth").write_text("no")), 2, ("w.pth",)),
    Case("weights-cut", _with(
        "--weights", "w.safetensors", before=lambda f: (f / "w.safetensors").write_bytes(b"\xff" * 40)
    ), 2, ("w.safetensors",)),
    Case("weights-half-a-bundle", _with("--weights", "b", before=_bundle_without_weights), 2, ("b",)),
    Case("out-a-file", _with("--out", "f", before=lambda f: (f / "f").touch()), 2, ("f: is a file: out must be",)),
    Case("out-below-a-file", _with("--out", "f/x", before=lambda f: (f / "f").touch()), 2, ("out must be a folder",)),
    Case("out-within-the-data", _with("--out", "data/run"), 2, ("data/run", "choose a folder elsewhere")),
    Case("out-taken", _with("--out", "old", before=_half_a_training), 2, ("old: already holds a training",)),
    Case("resume-nothing", lambda folder: [*_with()(folder)[:3], "--resume", "nowhere"], 2, ("nothing to resume",)),
    Case("resume-other-settings", lambda folder: [
        *_with(before=_half_a_training)(folder)[:3], "--resume", "old", "--lr", "0.1"
    ], 2, ("lr: resume continues", "its own settings")),
    Case("resume-half-a-checkpoint", lambda folder: [
        *_with(before=_half_a_training)(folder)[:3], "--resume", "old"
    ], 2, ("last.ckpt",)),
]  # fmt: skip
