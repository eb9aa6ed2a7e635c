"""Bundles on Hugging Face's hub: ``hf-hub:user/name`` instead of a folder, and ``fishnet push``. Torch-free."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from fishnet.bundle.bundle import CONFIG, WEIGHTS, Bundle, config_text, read_bundle, read_config
from fishnet.errors import InputError, WorkError, first_line
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.info import task_info

PREFIXES = ("hf-hub:", "hf_hub:")
CARD, CURVES = "README.md", "curves.png"


@dataclass(frozen=True)
class Upload:
    """What is sent to the hub.

    Attributes:
        repo: ``user/name``.
        files: name there -> the local file, or the content.
    """

    repo: str
    files: dict[str, Path | bytes]

    @property
    def card(self) -> str:
        """The model card: Markdown after YAML."""
        content = self.files[CARD]
        return (content.read_bytes() if isinstance(content, Path) else content).decode("utf-8")

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in self.files.items()
        }


def is_remote(source: str | Path) -> bool:
    """Whether a source is named as one on the hub."""
    return isinstance(source, str) and source.startswith(PREFIXES)


def local(source: str | Path) -> Path:
    """The folder of a bundle: the path itself, or where the hub's files are kept after downloading.

    Args:
        source: a path, or ``hf-hub:user/name``, with ``@revision`` (a branch, tag or commit) if wanted.

    Raises:
        InputError: no such repository or revision, no right to read it, no bundle, or huggingface_hub is missing.
        WorkError: the hub cannot be reached and the files are not kept from before.
    """
    if not is_remote(source):
        return Path(source)
    source = str(source)
    _check_installed(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """On a terminal only, and not for the small file."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True if options.get("total") == 1 else None
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    repo, _, revision = source.partition(":")[2].partition("@")
    _check_name(repo, source)

    def fetch(*names: str) -> Path:
        with _plainly(source):
            found = snapshot_download(repo, revision=revision or None, allow_patterns=list(names), tqdm_class=Bar)
            return Path(str(found))

    folder = fetch(CONFIG)  # small: what is no bundle is not downloaded
    if not (folder / CONFIG).is_file():
        raise InputError(f"{source}: not a bundle: {CONFIG} is missing there")
    try:
        read_config(folder / CONFIG)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder / CONFIG}: ")
        raise InputError(f"{source}: not a bundle: {CONFIG}: {reason}") from error
    folder = fetch(CONFIG, WEIGHTS)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{source}: not a whole bundle: {WEIGHTS} is missing there")
    return folder


def prepare(folder: str | Path, repo: str, license_id: str | None = None) -> Upload:
    """What :func:`push` would send: the config, the weights, the model card, and the curves where there are some.

    Args:
        folder: the bundle, or a name on the hub. A README.md in it is its card; otherwise one is written.
        repo: ``user/name``.
        license_id: of the model, as the hub names it (``apache-2.0``, ``mit`` ...); none is claimed by default.

    Raises:
        InputError: no bundle, a repository's name that cannot be one, or a licence for a card that is there already.
    """
    repo = repo.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
    _check_name(repo, repo)
    folder = local(folder)
    bundle = read_bundle(folder)
    own = folder / CARD
    if own.is_file() and license_id:
        raise InputError(f"{own}: is the card that would be sent: write the licence there instead of --license")
    curves = {CURVES: folder / CURVES} if (folder / CURVES).is_file() else {}
    text = own if own.is_file() else card(bundle, repo, license_id, curves=bool(curves)).encode()
    return Upload(repo, {CONFIG: config_text(bundle).encode(), WEIGHTS: folder / WEIGHTS, CARD: text, **curves})


def push(upload: Upload, *, private: bool = False, message: str = "") -> str:
    """Sends a bundle to the hub, in one commit; the repository is made if it does not exist.

    Args:
        upload: see :func:`prepare`.
        private: of a repository that is made.
        message: of the commit.

    Returns:
        The repository's address.

    Raises:
        InputError: not logged in, no right to write there, or huggingface_hub is missing.
        WorkError: the hub cannot be reached, or refuses.
    """
    _check_installed(upload.repo)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="fishnet-vision")
    operations = [CommitOperationAdd(name, content) for name, content in upload.files.items()]
    with _plainly(upload.repo):
        address = api.create_repo(upload.repo, private=private or None, exist_ok=True)
        api.create_commit(upload.repo, operations, commit_message=message or "A bundle of fishnet-vision")
    return str(address)


def card(bundle: Bundle, repo: str, license_id: str | None = None, *, curves: bool = False) -> str:
    """A model card: YAML for the hub, then what the model is, its figures and how to use it."""
    _check_installed(repo)
    from huggingface_hub import ModelCardData

    info = task_info(bundle.task)
    data = ModelCardData(
        license=license_id,
        library_name="fishnet-vision",
        pipeline_tag=info.hub_tag,
        tags=["fishnet", "pytorch", bundle.task, bundle.backbone],
        metrics=list(info.hub_metrics) if info.hub_metrics and bundle.metrics else None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_body(bundle, repo, curves)}"


def _body(bundle: Bundle, repo: str, curves: bool) -> str:
    it, names = bundle.preprocess, bundle.classes.names
    some = ", ".join(f"`{name}`" for name in names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
    figures = "\n".join(f"| {name} | {value:g} |" for name, value in bundle.metrics.items())
    own = "the images that training held out or was given for validation" if bundle.data else "its author's data"
    recipe = yaml.safe_dump(bundle.recipe, sort_keys=False, default_flow_style=None, allow_unicode=True)
    parts = [
        f"# {repo.rpartition('/')[2]}",
        f"A {bundle.backbone} ({bundle.task}), {len(names):,} classes, made with fishnet-vision.",
        "## Use\n\n```bash\npip install 'fishnet-vision[torch,hub]'\n```\n\n"
        f'```python\nimport fishnet\n\nmodel = fishnet.load("hf-hub:{repo}")\n'
        'print(model.predict("photo.jpg").to_dict())\n```\n\n'
        f"Or from the command line: `fishnet predict hf-hub:{repo} photo.jpg`.",
        f"## Classes\n\n{some}. All of them, with their ids, are in {CONFIG}.",
        f"## Preprocessing\n\n{_fitting(it)}, {it.channels} channels; values from 0 to 1, less "
        f"{_numbers(it.mean)}, divided by {_numbers(it.std)}.",
        f"## Metrics\n\nMeasured on {own}; in percent.\n\n| metric | value |\n|---|---|\n{figures}"
        if figures
        else "## Metrics\n\nNone were measured.",
        f"## Training\n\n![Loss and metrics over the epochs]({CURVES})" if curves else "",
        f"## Recipe\n\n```yaml\n{recipe}```" if bundle.recipe else "",
        "## Versions\n\n" + ", ".join(f"{name} {number}" for name, number in bundle.versions.items())
        if bundle.versions
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fitting(it: Preprocess) -> str:
    height, width = it.size
    if it.fit == "whole":
        return (
            f"The whole image, its shorter side to {height} px as far as the longer does not pass {width} px "
            f"({it.interpolation})"
        )
    wide = round(min(it.size) / it.crop_pct)
    return f"Shorter side to {wide} px ({it.interpolation}), centre crop of {height} x {width} px"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _check_installed(what: str) -> None:
    if find_spec("huggingface_hub") is None:
        raise InputError(f"{what}: this needs huggingface_hub: pip install 'fishnet-vision[hub]'")


def _check_name(repo: str, source: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{source}: {repo!r} is no repository's name: give user/name") from error


@contextmanager
def _plainly(what: str) -> Iterator[None]:
    """Turns the hub's errors into lines for a person."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(f"{what}: its owner has to let you in first; ask on its page, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{what}: no such repository, or a private one: check the name, or log in (`hf auth login` or HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{what}: no such revision: after @ stands a branch, a tag or a commit") from error
    except errors.LocalEntryNotFoundError as error:
        raise WorkError(f"{what}: the hub cannot be reached, and the files were not downloaded before") from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"{what}: log in first: `hf auth login`, or HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise InputError(f"{what}: not allowed: `hf auth login` with a token that may write there") from error
        raise WorkError(f"{what}: the hub refused ({status}: {first_line(error)})") from error
    except Exception as error:  # of its transport: which library that is differs from version to version
        raise WorkError(f"{what}: the hub cannot be reached ({type(error).__name__}: {first_line(error)})") from error
