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
    message: str = "",
    license_: Annotated[str | None, Parameter(name="--license")] = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Send a bundle to Hugging Face's hub, with a model card; hf-hub:USER/NAME then stands for the folder.

    Sent are config.json, model.safetensors, README.md (the bundle's own, else one is written) and curves.png: no
    checkpoint, no log, no image. Log in before: `hf auth login`, or HF_TOKEN.

    Parameters
    ----------
    bundle
        The folder that training wrote.
    repo
        USER/NAME on the hub; made if it does not exist.
    private
        Make it a private one.
    message
        Of the commit.
    license_
        Of the model, as the hub names licences: apache-2.0, mit, cc-by-4.0 ... Default: none is claimed.
    dry_run
        Print the model card and the files, and send nothing.
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
