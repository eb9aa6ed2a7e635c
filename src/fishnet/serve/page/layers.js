// What is drawn of a result: layers with pixels, boxes and legends.

/** A colour of a class, by its place among the classes: [red, green, blue]. */
export function colourOf(place) {
  const hue = (place * 137.508 + 200) % 360;
  const chroma = 0.75, light = place % 2 ? 0.62 : 0.48;
  const spread = chroma * Math.min(light, 1 - light);
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** Lengths of COCO's compressed run-length encoding. */
export function runLengths(text) {
  const lengths = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

/** The ids of a PNG file in base64: red + 256 green + 65536 blue. */
async function idsOf(png) {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const ids = new Int32Array(data.length / 4);
  for (let i = 0; i < ids.length; i++) ids[i] = data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2];
  return ids;
}

/**
 * The layers of a result. Each has: name, kind (scores, objects, labels, segments), size [height, width], items with
 * name, class (id), colour, score, text; for objects a box and run lengths, for maps their ids.
 */
export async function layersOf(result, model) {
  const layers = [];
  for (const [name, part] of Object.entries(result)) layers.push(await layerOf(name, part, model));
  const merged = layers.some((layer) => layer.kind === "segments");
  for (const layer of layers) {
    layer.shown = !(merged && (layer.kind === "objects" || layer.kind === "labels")); // the segments are made of both
    layer.hidden = new Set();
  }
  return layers;
}

async function layerOf(name, part, model) {
  const classes = classesOf(name, model);
  const place = new Map(classes.map(({ id }, i) => [id, i]));
  const colour = (id) => colourOf(place.get(id) ?? place.size);
  if (part.predictions) return { name, kind: "scores", size: null, items: scoreItems(part) };
  if (part.objects) {
    const items = part.objects.map((object) => ({
      name: object.name, class: object.id, colour: colour(object.id), score: object.score, box: object.box,
      runs: object.segmentation ? runLengths(object.segmentation.counts) : null,
    }));
    return { name, kind: "objects", size: part.size, items };
  }
  const ids = await idsOf(part.png);
  if (part.segments_info) {
    const items = part.segments_info.map((segment, i) => ({
      name: segment.name, class: segment.category_id, score: segment.score, id: segment.id, area: segment.area,
      box: [segment.bbox[0], segment.bbox[1], segment.bbox[0] + segment.bbox[2], segment.bbox[1] + segment.bbox[3]],
      colour: segment.score === undefined ? colour(segment.category_id) : colourOf(place.size + i),
    }));
    return { name, kind: "segments", size: part.size, items, ids };
  }
  const items = part.classes.map((each) => ({
    name: each.name, class: each.id, colour: colour(each.id), id: each.id, area: each.pixels, share: each.share,
  }));
  return { name, kind: "labels", size: part.size, items, ids };
}

function classesOf(name, model) {
  if (model.heads[name]) return model.heads[name].classes;
  return Object.values(model.heads).flatMap((head) => head.classes);
}

function scoreItems(part) {
  const present = part.labels ? new Set(part.labels.map((label) => label.id)) : null;
  return part.predictions.map((each, i) => ({
    name: each.name, class: each.id, score: each.score, colour: colourOf(i), several: present !== null,
  }));
}

/** Whether an item is drawn: its layer and its class are switched on, and its score reaches the threshold. */
export function isVisible(layer, item, threshold) {
  return layer.shown && !layer.hidden.has(item.class) && (item.score === undefined || item.score >= threshold);
}

/**
 * Paints the visible masks and maps of a layer. Returns pixels (RGBA), and the number of the item at each pixel, from 1.
 */
export function paint(layer, threshold) {
  const [height, width] = layer.size;
  const numbers = new Uint16Array(height * width);
  if (layer.kind === "objects") {
    for (let i = layer.items.length - 1; i >= 0; i--) { // the best last, over the others
      const item = layer.items[i];
      if (item.runs && isVisible(layer, item, threshold)) fill(numbers, item.runs, height, width, i + 1);
    }
  } else {
    const number = new Map(layer.items.map((item, i) => [item.id, isVisible(layer, item, threshold) ? i + 1 : 0]));
    for (let at = 0; at < numbers.length; at++) numbers[at] = number.get(layer.ids[at]) ?? 0;
  }
  const pixels = new Uint8ClampedArray(4 * height * width);
  for (let at = 0; at < numbers.length; at++) {
    if (!numbers[at]) continue;
    const [red, green, blue] = layer.items[numbers[at] - 1].colour;
    pixels[4 * at] = red;
    pixels[4 * at + 1] = green;
    pixels[4 * at + 2] = blue;
    pixels[4 * at + 3] = 140;
  }
  return { pixels, numbers };
}

function fill(numbers, runs, height, width, number) {
  let at = 0; // column by column
  runs.forEach((length, i) => {
    if (i % 2) {
      for (let place = at; place < at + length; place++) {
        numbers[(place % height) * width + Math.floor(place / height)] = number;
      }
    }
    at += length;
  });
}
