"""Sends images to ``fishnet serve`` with the standard library alone.

python predict.py http://127.0.0.1:8000 a.jpg b.png
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def predict(address: str, image: Path, attempts: int = 5) -> Any:
    """The result of an image. Tries again when the service is full, as long as it asks for."""
    token = os.environ.get("FISHNET_TOKEN")
    headers = {"Content-Type": "application/octet-stream", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"{address}/v1/predict", image.read_bytes(), headers)
    for attempt in range(1, attempts + 1):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["results"][0]["result"]
        except urllib.error.HTTPError as error:
            wait = error.headers.get("Retry-After")
            if wait is None or attempt == attempts:
                raise SystemExit(f"{image}: {json.load(error)['error']['message']}") from None
            time.sleep(int(wait))
    return None


if __name__ == "__main__":
    for path in map(Path, sys.argv[2:]):
        print(json.dumps({"image": str(path), **predict(sys.argv[1], path)}))
