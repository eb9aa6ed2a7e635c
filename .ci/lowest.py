"""Prints pip constraints that pin every dependency of pyproject.toml to its lower bound: for ``make test-lowest``."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = [
    *project["dependencies"],
    *(line for extra in project["optional-dependencies"].values() for line in extra),
]
for requirement in sorted(set(requirements)):
    if bound := re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{bound[1]}=={bound[2]}")
    elif not requirement.startswith("fishnet-vision["):
        raise SystemExit(f"{requirement}: says no lower bound as NAME>=VERSION")
