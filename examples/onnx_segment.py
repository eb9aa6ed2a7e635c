"""Runs an exported segmenter without fishnet-vision: python onnx_segment.py model.onnx image.jpg labels.png

labels.png holds the original id of each pixel's class as a grey value.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
bundle = json.loads(session.get_modelmeta().custom_metadata_map["fishnet"])["bundle"]
prepare, classes = bundle["preprocess"], bundle["heads"]["segment"]["classes"]
mean, std = (np.array(prepare[key], np.float32)[:, None, None] for key in ("mean", "std"))
if len(mean) not in (1, 3):
    sys.exit("this example prepares grey and RGB images only")
image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB" if len(mean) == 3 else "L")

# keep the size ("native") or resize with the aspect ratio kept; pad right and bottom to multiples of 32, at least 64
short, long = sorted(image.size)
scale = 1.0 if prepare["fit"] == "native" else min(prepare["size"][0] / short, prepare["size"][1] / long)
width, height = (max(1, round(side * scale)) for side in image.size)
resized = image.resize((width, height), Image.Resampling[prepare["interpolation"].upper()]) if scale != 1 else image
colour = tuple(round(255 * value) for value in prepare["mean"])
sides = [max(2, -(-side // 32)) * 32 for side in resized.size]
page = Image.new(image.mode, sides, colour if len(mean) == 3 else colour[0])
page.paste(resized)
pixels = np.array(page, np.float32).reshape(page.height, page.width, -1)
batch = (pixels.transpose(2, 0, 1)[None] / np.float32(255) - mean) / std

(logits,) = session.run(["logits"], {"image": batch})  # (1, classes, height, width) of the input
scores = np.exp(logits[0] - logits[0].max(0))[:, :height, :width]
scores /= scores.sum(0)
planes = [Image.fromarray(plane).resize(image.size, Image.Resampling.BILINEAR) for plane in scores]
labels = np.argmax(np.stack([np.asarray(plane) for plane in planes]), 0)
ids = np.array([row["id"] for row in classes], np.uint16)
Image.fromarray(ids[labels] if ids.max() > 255 else ids[labels].astype(np.uint8)).save(sys.argv[3])
shares = {row["name"]: float((labels == i).mean()) for i, row in enumerate(classes)}
print(json.dumps({"source": sys.argv[2], "size": list(labels.shape), "shares": shares}))
