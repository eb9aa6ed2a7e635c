"""``fishnet push BUNDLE REPO``."""

import json
from typing import Annotated

from cyclopts import Parameter


def push(
    bundle: str,
    repo: str,
    /,
    *,
    private: Annotated[bool, Parameter(negative=())] = False,
    message: Annotated[str, Parameter(show_default=False)] = "",
    license_: Annotated[str | None, Parameter(name="--license")] = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Upload a bundle to the Hugging Face Hub, with a model card. Then use hf-hub:USER/NAME in place of the folder.

    Uploads config.json, model.safetensors, README.md (the bundle's own, or a new one) and curves.png; no checkpoints,
    logs or images. Log in first with `hf auth login`, or set HF_TOKEN.

    Parameters
    ----------
    bundle
        The bundle: the folder that training wrote.
    repo
        USER/NAME on the hub; created if it does not exist.
    private
        Create a private repository.
    message
        Commit message.
    license_
        The model's licence, as the hub names it: apache-2.0, mit, cc-by-4.0 ... Default: none.
    dry_run
        Print the model card and the list of files; upload nothing.
    as_json
        Print one JSON object.
    """
    from fishnet.bundle import hub

    upload = hub.prepare(bundle, repo, license_)
    sizes = upload.sizes()
    address = None if dry_run else hub.push(upload, private=private, message=message)
    if as_json:
        card = {"card": upload.card} if dry_run else {}
        print(json.dumps({"repo": upload.repo, "address": address, "files": sizes, **card}, allow_nan=False))
        return
    if dry_run:
        print(upload.card)
        print(f"would be sent to {upload.repo}:")
    else:
        print(f"sent to {address}:")
    for name, size in sizes.items():
        print(f"  {name} ({size:,} bytes)")
    if not dry_run:
        print(f"use it: fishnet predict hf-hub:{upload.repo} IMAGES")
