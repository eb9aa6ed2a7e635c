// The canvas: an image with layers over it, zoomed and moved.

import { isVisible, paint } from "./layers.js";

const STEP = 1.25, MOVE = 40;

export class View {
  /** describe(items) -> the text of the tooltip. */
  constructor(canvas, tip, describe) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tip = tip;
    this.describe = describe;
    this.image = null;
    this.layers = [];
    this.painted = [];
    this.threshold = 0;
    this.pointers = new Map();
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.listen();
  }

  /** Shows an image: something that a canvas draws, or null if the browser cannot show it, and its size in px. */
  show(image, width, height) {
    this.image = image;
    this.size = [width, height];
    this.setLayers([], 0);
    this.fit();
  }

  setLayers(layers, threshold) {
    this.layers = layers;
    this.threshold = threshold;
    this.painted = layers.map((layer) => {
      if (!layer.size || !layer.shown || !(layer.ids || layer.items.some((item) => item.runs))) return null;
      const [height, width] = layer.size;
      const { pixels, numbers } = paint(layer, threshold);
      const canvas = new OffscreenCanvas(width, height);
      canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
      return { canvas, numbers, width };
    });
    this.draw();
  }

  fit() {
    if (!this.size) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    const [width, height] = this.size;
    this.scale = Math.min(this.canvas.width / width, this.canvas.height / height);
    this.left = (this.canvas.width - width * this.scale) / 2;
    this.top = (this.canvas.height - height * this.scale) / 2;
    this.draw();
  }

  /** Zooms by a factor about a place of the canvas, by default its middle. */
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    if (!this.size) return;
    const scale = Math.min(64, Math.max(0.02, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.draw();
  }

  draw() {
    if (!this.size) return;
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.render(context, this.scale, this.left, this.top, (window.devicePixelRatio || 1) * 14);
  }

  render(context, scale, left, top, font) {
    const [width, height] = this.size;
    context.setTransform(scale, 0, 0, scale, left, top);
    context.imageSmoothingEnabled = scale < 3;
    if (this.image) context.drawImage(this.image, 0, 0, width, height);
    else {
      context.fillStyle = "#808080";
      context.fillRect(0, 0, width, height);
    }
    context.imageSmoothingEnabled = false;
    for (const painted of this.painted) if (painted) context.drawImage(painted.canvas, 0, 0, width, height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (const layer of this.layers) if (layer.kind === "objects") this.drawBoxes(context, layer, scale, left, top, font);
  }

  drawBoxes(context, layer, scale, left, top, font) {
    context.font = `${font}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    for (const item of [...layer.items].reverse()) {
      if (!isVisible(layer, item, this.threshold)) continue;
      const [x1, y1, x2, y2] = item.box.map((side, i) => side * scale + (i % 2 ? top : left));
      context.lineWidth = Math.max(2, font / 7);
      context.strokeStyle = `rgb(${item.colour})`;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      const text = `${item.name} ${Math.round(100 * item.score)} %`;
      const width = context.measureText(text).width + font / 2;
      if (x2 - x1 < width / 2.5) continue; // small boxes keep their names for the tooltip
      const bottom = Math.max(y1, font * 1.3);
      context.fillStyle = "rgba(16, 24, 32, 0.85)";
      context.fillRect(x1, bottom - font * 1.3, width, font * 1.3);
      context.fillStyle = "#ffffff";
      context.fillText(text, x1 + font / 4, bottom - font * 0.1);
    }
  }

  /** The image with its layers, in its own size, as a PNG file. */
  async toPng() {
    const [width, height] = this.size;
    const canvas = new OffscreenCanvas(width, height);
    this.render(canvas.getContext("2d"), 1, 0, 0, Math.max(11, Math.round(Math.min(width, height) / 40)));
    return canvas.convertToBlob({ type: "image/png" });
  }

  /** The visible items at a place of the image, px. */
  itemsAt(x, y) {
    const items = [];
    this.layers.forEach((layer, i) => {
      const painted = this.painted[i];
      if (layer.kind === "objects") {
        const inside = layer.items.filter((item) => isVisible(layer, item, this.threshold) && contains(item.box, x, y));
        const smallest = inside.sort((a, b) => area(a.box) - area(b.box))[0];
        if (smallest) items.push(smallest);
      } else if (painted) {
        const number = painted.numbers[Math.floor(y) * painted.width + Math.floor(x)];
        if (number) items.push(layer.items[number - 1]);
      }
    });
    return items;
  }

  hover(event) {
    const ratio = window.devicePixelRatio || 1;
    const x = (event.offsetX * ratio - this.left) / this.scale, y = (event.offsetY * ratio - this.top) / this.scale;
    const inside = x >= 0 && y >= 0 && x < this.size[0] && y < this.size[1];
    const items = inside ? this.itemsAt(x, y) : [];
    this.tip.hidden = !items.length;
    if (!items.length) return;
    this.tip.textContent = this.describe(items);
    this.tip.style.left = `${Math.min(event.offsetX + 14, this.canvas.clientWidth - 180)}px`;
    this.tip.style.top = `${event.offsetY + 14}px`;
  }

  listen() {
    const { canvas, pointers } = this;
    const ratio = () => window.devicePixelRatio || 1;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? STEP : 1 / STEP, event.offsetX * ratio(), event.offsetY * ratio());
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.pointerMoved(event, ratio()));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      canvas.addEventListener(name, (event) => {
        pointers.delete(event.pointerId);
        if (name === "pointerleave") this.tip.hidden = true;
      });
    }
    canvas.addEventListener("keydown", (event) => this.keyPressed(event));
  }

  pointerMoved(event, ratio) {
    if (!this.size) return;
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(event);
      return;
    }
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
      const distance = (a) => Math.hypot(a.offsetX - other.offsetX, a.offsetY - other.offsetY) || 1;
      this.zoom(distance(event) / distance(before), other.offsetX * ratio, other.offsetY * ratio);
    } else {
      this.move((event.offsetX - before.offsetX) * ratio, (event.offsetY - before.offsetY) * ratio);
    }
    this.pointers.set(event.pointerId, event);
  }

  keyPressed(event) {
    const actions = {
      "+": () => this.zoom(STEP), "=": () => this.zoom(STEP), "-": () => this.zoom(1 / STEP), 0: () => this.fit(),
      ArrowLeft: () => this.move(MOVE, 0), ArrowRight: () => this.move(-MOVE, 0),
      ArrowUp: () => this.move(0, MOVE), ArrowDown: () => this.move(0, -MOVE),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  }
}

function contains([x1, y1, x2, y2], x, y) {
  return x >= x1 && x < x2 && y >= y1 && y < y2;
}

function area([x1, y1, x2, y2]) {
  return (x2 - x1) * (y2 - y1);
}
