// What is listed beside the image: classes with switches, scores with bars.

import { isVisible } from "./layers.js";

const TITLES = { scores: "Classes", objects: "Objects", labels: "Label map", segments: "Segments" };

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Lists the layers; change() is called when a switch was used. */
export function listLayers(root, layers, threshold, change) {
  root.replaceChildren(...layers.map((layer) => section(layer, layers.length > 1, threshold, change)));
}

/** Updates counts and bars after the threshold or a switch has changed. */
export function updateCounts(root, layers, threshold) {
  layers.forEach((layer, i) => {
    const list = root.children[i];
    if (layer.kind === "scores") {
      layer.items.forEach((item, j) => list.querySelectorAll("li")[j].classList.toggle(
        "below", item.several && item.score < threshold));
      return;
    }
    for (const row of list.querySelectorAll("li[data-class]")) {
      row.querySelector(".count").textContent = countText(layer, row.dataset.class, threshold);
    }
    list.querySelector("[data-total]").textContent = totalText(layer, threshold);
  });
}

function section(layer, several, threshold, change) {
  const box = element("fieldset", {}, element("legend", { textContent: several ? layer.name : TITLES[layer.kind] }));
  if (layer.kind === "scores") {
    box.append(element("ul", {}, ...layer.items.map(scoreRow)));
    return box;
  }
  if (several) {
    const input = element("input", { type: "checkbox", checked: layer.shown });
    input.addEventListener("change", () => {
      layer.shown = input.checked;
      change();
    });
    box.append(element("label", { className: "class" }, input, element("span", { textContent: `Show ${layer.name}` })));
  }
  const total = element("p", { className: "count", textContent: totalText(layer, threshold) });
  total.dataset.total = "";
  const classes = new Map(layer.items.map((item) => [String(item.class), item]));
  const rows = [...classes.entries()].map(([id, item]) => classRow(layer, id, item, threshold, change));
  const list = element("ul", { className: "scroll" }, ...rows);
  if (rows.length) list.tabIndex = 0; // a long list scrolls by keyboard too
  list.setAttribute("aria-label", `Classes of ${layer.name}`);
  box.append(total, list);
  return box;
}

function scoreRow(item) {
  const fill = element("span");
  fill.style.width = `${Math.max(0.5, 100 * item.score)}%`;
  const bar = element("div", { className: "bar" }, fill);
  bar.setAttribute("aria-hidden", "true");
  const line = element("div", { className: "class" },
    element("span", { className: "name", textContent: item.name }),
    element("span", { className: "count", textContent: percent(item.score) }));
  return element("li", {}, line, bar);
}

function classRow(layer, id, item, threshold, change) {
  const input = element("input", { type: "checkbox", checked: !layer.hidden.has(item.class) });
  input.addEventListener("change", () => {
    if (input.checked) layer.hidden.delete(item.class);
    else layer.hidden.add(item.class);
    change();
  });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = `rgb(${item.colour})`;
  swatch.setAttribute("aria-hidden", "true");
  const row = element("li", {}, element("label", { className: "class" }, input, swatch,
    element("span", { className: "name", textContent: item.name }),
    element("span", { className: "count", textContent: countText(layer, id, threshold) })));
  row.dataset.class = id;
  return row;
}

function countText(layer, id, threshold) {
  const items = layer.items.filter((item) => String(item.class) === id);
  if (layer.kind === "labels") return percent(items[0].share);
  return String(items.filter((item) => isVisible(layer, item, threshold)).length);
}

function totalText(layer, threshold) {
  if (layer.kind === "labels") return `${layer.items.length} ${layer.items.length === 1 ? "class" : "classes"}`;
  const shown = layer.items.filter((item) => isVisible(layer, item, threshold)).length;
  const noun = layer.kind === "segments" ? "segment" : "object";
  return `${shown} ${noun}${shown === 1 ? "" : "s"} shown`;
}
