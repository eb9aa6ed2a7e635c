"""Bundles on Hugging Face's hub: ``hf-hub:user/name`` instead of a folder, and ``fishnet push``. Torch-free."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from fishnet.bundle.bundle import CONFIG, WEIGHTS, Bundle, config_text, is_bundle, read_bundle, read_config
from fishnet.errors import InputError, WorkError, first_line
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.info import task_info
from fishnet.weights import weights_folder

PREFIXES = ("hf-hub:", "hf_hub:")
CARD, CURVES = "README.md", "curves.png"
_PANOPTIC_TAG = "image-segmentation"  # the hub has no tag for panoptic segmentation alone


@dataclass(frozen=True)
class Upload:
    """The files of an upload to the hub.

    Attributes:
        repo: ``user/name``.
        files: name on the hub -> the local file, or the content.
    """

    repo: str
    files: dict[str, Path | bytes]

    @property
    def card(self) -> str:
        """The model card: YAML, then Markdown."""
        content = self.files[CARD]
        return (content.read_bytes() if isinstance(content, Path) else content).decode("utf-8")

    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes."""
        return {
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in self.files.items()
        }


def is_remote(source: str | Path) -> bool:
    """Whether a source names a repository on the hub."""
    return isinstance(source, str) and source.startswith(PREFIXES)


def local_path(source: str | Path) -> Path:
    """Returns a path unchanged; downloads a bundle from the hub and returns its folder in the hub's cache.

    Args:
        source: a path, or ``hf-hub:user/name``, optionally with ``@revision`` (a branch, tag or commit).

    Raises:
        InputError: no such repository or revision, no permission to read it, not a bundle, or huggingface_hub is not
            installed.
        WorkError: the hub cannot be reached and the cache does not hold the files.
    """
    if not is_remote(source):
        return Path(source)
    source = str(source)
    _check_installed(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """A progress bar on terminals only, and not for the small config."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True if options.get("total") == 1 else None
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    repo, _, revision = source.partition(":")[2].partition("@")
    _check_name(repo, source)

    def fetch(*names: str) -> Path:
        with _readable_errors(source):
            snapshot = snapshot_download(repo, revision=revision or None, allow_patterns=list(names), tqdm_class=Bar)
            return Path(str(snapshot))

    folder = fetch(CONFIG)  # the small file first, so that the weights are only downloaded if this is a bundle
    if not (folder / CONFIG).is_file():
        raise InputError(f"{source}: not a bundle: {CONFIG} is missing there")
    try:
        read_config(folder / CONFIG)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder / CONFIG}: ")
        raise InputError(f"{source}: not a bundle: {CONFIG}: {reason}") from error
    folder = fetch(CONFIG, WEIGHTS)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{source}: not a complete bundle: {WEIGHTS} is missing there")
    return folder


def bundle_path(source: str | Path) -> Path:
    """:func:`local_path`, or the bundle in this package for the name of a network that has weights there.

    A bundle or file of that name takes precedence.
    """
    path = local_path(source)
    return path if path.is_file() or is_bundle(path) else weights_folder(str(source)) or path


def prepare(folder: str | Path, repo: str, license_id: str | None = None) -> Upload:
    """Gathers the files that :func:`push` sends: the config, the weights, the model card, and the curves if present.

    Args:
        folder: the bundle, or a name on the hub. A README.md in it is used as the card; otherwise a card is written.
        repo: ``user/name``.
        license_id: the model's licence, as the hub names it (``apache-2.0``, ``mit`` ...); by default the card has
            none.

    Raises:
        InputError: no bundle, an invalid name of a repository, or a licence although there is a card already.
    """
    repo = repo.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
    _check_name(repo, repo)
    folder = bundle_path(folder)
    bundle = read_bundle(folder)
    readme = folder / CARD
    if readme.is_file() and license_id:
        raise InputError(f"{readme}: is used as the model card: write the licence there and leave out --license")
    curves = {CURVES: folder / CURVES} if (folder / CURVES).is_file() else {}
    text = readme if readme.is_file() else card(bundle, repo, license_id, curves=bool(curves)).encode()
    return Upload(repo, {CONFIG: config_text(bundle).encode(), WEIGHTS: folder / WEIGHTS, CARD: text, **curves})


def push(upload: Upload, *, private: bool = False, message: str = "") -> str:
    """Sends a bundle to the hub in one commit. The repository is created if it does not exist.

    Args:
        upload: see :func:`prepare`.
        private: whether a new repository is private.
        message: the commit's message.

    Returns:
        The repository's address.

    Raises:
        InputError: not logged in, no permission to write there, or huggingface_hub is not installed.
        WorkError: the hub cannot be reached, or refuses the upload.
    """
    _check_installed(upload.repo)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="fishnet-vision")
    operations = [CommitOperationAdd(name, content) for name, content in upload.files.items()]
    with _readable_errors(upload.repo):
        address = api.create_repo(upload.repo, private=private or None, exist_ok=True)
        api.create_commit(upload.repo, operations, commit_message=message or "A bundle of fishnet-vision")
    return str(address)


def card(bundle: Bundle, repo: str, license_id: str | None = None, *, curves: bool = False) -> str:
    """Writes a model card: YAML for the hub, then a description of the model, its metrics and its use.

    The hub knows one task per model, by which it offers a demo: that of the panoptic segments, which are made of all
    heads, or of the first head, which the recipe or the command line named first.
    """
    _check_installed(repo)
    from huggingface_hub import ModelCardData

    infos = [task_info(head.task) for head in bundle.heads.values()]
    tasks = [info.name for info in infos] + ([] if bundle.panoptic is None else ["panoptic"])
    named = [("f1",) if head.multi_label else task_info(head.task).hub_metrics for head in bundle.heads.values()]
    metrics = list(dict.fromkeys(name for names in named for name in names)) if bundle.metrics else []
    data = ModelCardData(
        license=license_id,
        library_name="fishnet-vision",
        pipeline_tag=infos[0].hub_tag if bundle.panoptic is None else _PANOPTIC_TAG,
        tags=list(dict.fromkeys(["fishnet", "pytorch", *tasks, bundle.backbone])),
        metrics=metrics or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(bundle, repo, curves)}"


def _body(bundle: Bundle, repo: str, curves: bool) -> str:
    preprocess = bundle.preprocess
    metrics = "\n".join(f"| {name} | {value:g} |" for name, value in bundle.metrics.items())
    measured_on = (
        "the images that training held out or was given for validation" if bundle.data else "its author's data"
    )
    recipe = yaml.safe_dump(bundle.recipe, sort_keys=False, default_flow_style=None, allow_unicode=True)
    sections = [
        f"# {repo.rpartition('/')[2]}",
        _introduction(bundle),
        "## Use\n\n```bash\npip install 'fishnet-vision[torch,hub]'\n```\n\n"
        f'```python\nimport fishnet\n\nmodel = fishnet.load("hf-hub:{repo}")\n'
        'print(model.predict("photo.jpg").to_dict())\n```\n\n'
        f"Or from the command line: `fishnet predict hf-hub:{repo} photo.jpg`.",
        _classes(bundle),
        f"## Preprocessing\n\n{_fitting(preprocess)}, {preprocess.channels} channels; values from 0 to 1, minus "
        f"{_numbers(preprocess.mean)}, divided by {_numbers(preprocess.std)}.",
        f"## Metrics\n\nMeasured on {measured_on}; in percent.\n\n| metric | value |\n|---|---|\n{metrics}"
        if metrics
        else "## Metrics\n\nNone were measured.",
        f"## Training\n\n![Loss and metrics over the epochs]({CURVES})" if curves else "",
        f"## Recipe\n\n```yaml\n{recipe}```" if bundle.recipe else "",
        "## Versions\n\n" + ", ".join(f"{name} {number}" for name, number in bundle.versions.items())
        if bundle.versions
        else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(bundle: Bundle) -> str:
    """A sentence that says what the model is."""
    if len(bundle.heads) == 1:
        return f"A {bundle.backbone} ({bundle.task}), {len(bundle.classes):,} classes, made with fishnet-vision."
    heads = ", ".join(f"`{name}` ({head.task})" for name, head in bundle.heads.items())
    merged = "" if bundle.panoptic is None else " Instances and label maps are merged into panoptic segments."
    return (
        f"A {bundle.backbone} with {len(bundle.heads)} heads that share one pass: {heads}. Made with "
        f"fishnet-vision.{merged}"
    )


def _classes(bundle: Bundle) -> str:
    """The section with the classes of each head."""
    everything = f"All of them, with their ids, are in {CONFIG}."
    if len(bundle.heads) == 1:
        return f"## Classes\n\n{_names(bundle.classes.names)}. {everything}"
    rows = "\n".join(
        f"- `{name}`, {len(head.classes):,} classes: {_names(head.classes.names)}"
        for name, head in bundle.heads.items()
    )
    return f"## Classes\n\n{rows}\n\n{everything}"


def _names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(f"`{name}`" for name in names[:20]) + more


def _fitting(preprocess: Preprocess) -> str:
    height, width = preprocess.size
    if preprocess.fit == "whole":
        return (
            f"The whole image, resized so that its shorter side has {height} px and its longer side at most {width} px "
            f"({preprocess.interpolation})"
        )
    if preprocess.fit == "native":
        return "The whole image in its own size"
    side = round(min(preprocess.size) / preprocess.crop_pct)
    return f"Shorter side resized to {side} px ({preprocess.interpolation}), centre crop of {height} x {width} px"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _check_installed(source: str) -> None:
    if find_spec("huggingface_hub") is None:
        raise InputError(f"{source}: this needs huggingface_hub: pip install 'fishnet-vision[hub]'")


def _check_name(repo: str, source: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{source}: {repo!r} is not a valid name of a repository: give user/name") from error


@contextmanager
def _readable_errors(source: str) -> Iterator[None]:
    """Turns the hub's exceptions into errors with one readable line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(
            f"{source}: its owner must grant you access: ask for it on its page, then run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{source}: no such repository, or a private one: check the name, or log in (`hf auth login` or HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{source}: no such revision: give a branch, a tag or a commit after @") from error
    except errors.LocalEntryNotFoundError as error:
        raise WorkError(f"{source}: the hub cannot be reached, and the files were not downloaded before") from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{source}: log in first: `hf auth login`, or HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise InputError(f"{source}: not allowed: `hf auth login` with a token that may write there") from error
        raise WorkError(f"{source}: the hub refused the request ({status}: {first_line(error)})") from error
    except Exception as error:  # from the HTTP library, which differs between versions
        raise WorkError(f"{source}: the hub cannot be reached ({type(error).__name__}: {first_line(error)})") from error
