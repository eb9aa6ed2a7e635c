"""Runs an exported classifier without fishnet-vision: python onnx_classify.py model.onnx image.jpg ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
bundle = json.loads(session.get_modelmeta().custom_metadata_map["fishnet"])["bundle"]
prepare, names = bundle["preprocess"], [row["name"] for row in bundle["heads"]["classify"]["classes"]]
mean, std = (np.array(prepare[key], np.float32)[:, None, None] for key in ("mean", "std"))
if len(mean) not in (1, 3):
    sys.exit("this example prepares grey and RGB images only")
height, width = prepare["size"]
resample = Image.Resampling[prepare["interpolation"].upper()]

for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if len(mean) == 3 else "L")
    # resize the shorter side to size / crop_pct and take the centre; box is the part of the image that is used
    scale = max(height / image.height, width / image.width) / prepare["crop_pct"]
    wide, high = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (wide - width) // 2, (high - height) // 2
    across, down = image.width / wide, image.height / high
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    pixels = np.array(image.resize((width, height), resample, box), np.float32).reshape(height, width, -1)
    batch = (pixels.transpose(2, 0, 1)[None] / np.float32(255) - mean) / std

    (logits,) = session.run(["logits"], {"image": batch})  # (1, classes); batches of any size work, too
    scores = np.exp(logits[0] - logits[0].max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:5].tolist()
    print(json.dumps({"source": path, "predictions": [{"name": names[i], "score": float(scores[i])} for i in best]}))
