"""Runs an exported detector or instance segmenter without fishnet-vision: onnx_detect.py FILE IMAGE..."""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
exported = json.loads(session.get_modelmeta().custom_metadata_map["fishnet"])
names, prepare, (head,) = exported["outputs"], exported["bundle"]["preprocess"], exported["bundle"]["heads"].values()
mean, std = (np.array(prepare[key], np.float32)[:, None, None] for key in ("mean", "std"))
if len(mean) not in (1, 3):
    sys.exit("this example prepares grey and RGB images only")
resample, threshold = Image.Resampling[prepare["interpolation"].upper()], head["thresholds"].get("score", 0)

for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if len(mean) == 3 else "L")
    # resize with the aspect ratio kept, and pad right and bottom with the mean colour to multiples of 32, at least 64
    short, long = sorted(image.size)
    scale = min(prepare["size"][0] / short, prepare["size"][1] / long)
    inner = [max(1, round(side * scale)) for side in image.size]
    colour = tuple(round(255 * value) for value in prepare["mean"])
    page = Image.new(image.mode, [max(2, -(-side // 32)) * 32 for side in inner], colour)
    page.paste(image if tuple(inner) == image.size else image.resize(inner, resample))
    pixels = np.array(page, np.float32).reshape(page.height, page.width, -1)
    batch = (pixels.transpose(2, 0, 1)[None] / np.float32(255) - mean) / std

    values = session.run(names, {"image": batch})  # files that take batches have empty boxes after the last object
    outputs = {name: each[0] if exported["dynamic_batch"] else each for name, each in zip(names, values, strict=True)}
    scales = np.array([inner[0] / image.width, inner[1] / image.height] * 2)
    boxes = (outputs["boxes"] / scales).clip(0, image.size * 2)  # x1, y1, x2, y2 in px of the image, best first
    objects = []
    for i in np.flatnonzero((outputs["scores"] >= threshold) & (boxes[:, :2] < boxes[:, 2:]).all(1)).tolist():
        name = head["classes"][outputs["labels"][i]]["name"]
        detection = {"name": name, "score": float(outputs["scores"][i]), "box": boxes[i].tolist()}
        if "masks" in outputs:  # (m, m) probabilities over the whole box, which may exceed the image
            mask, (x1, y1, x2, y2) = outputs["masks"][i], (outputs["boxes"][i] / scales).tolist()
            left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
            wide, high = min(image.width, math.ceil(x2)) - left, min(image.height, math.ceil(y2)) - top
            edge, across, down = 2 * len(mask) + 1, len(mask) / max(1, x2 - x1), len(mask) / max(1, y2 - y1)
            x, y = edge + (left - x1) * across, edge + (top - y1) * down
            box = (x, y, x + wide * across, y + high * down)
            cells = Image.fromarray(np.pad(mask, edge)).resize((wide, high), Image.Resampling.BILINEAR, box)
            detection["area"] = int((np.asarray(cells) >= 0.5).sum())  # px of the mask, whose corner is (left, top)
        objects.append(detection)
    print(json.dumps({"source": path, "objects": objects}))
