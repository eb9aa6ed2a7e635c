// The page: takes images, asks the service, and shows what it answers.

import { describeModel, listModels, predict, ServiceError, setToken } from "./api.js";
import { layersOf } from "./layers.js";
import { listLayers, percent, updateCounts } from "./panel.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const view = new View(byId("canvas"), byId("tip"), describe);
const state = { model: null, file: null, result: null, layers: [], stop: null };

function describe(items) {
  return items.map((item) => {
    const parts = [item.name];
    if (item.score !== undefined) parts.push(percent(item.score));
    if (item.box) parts.push(`${Math.round(item.box[2] - item.box[0])} × ${Math.round(item.box[3] - item.box[1])} px`);
    if (item.share !== undefined) parts.push(`${percent(item.share)} of the image`);
    else if (item.area !== undefined) parts.push(`${item.area} px`);
    return parts.join(", ");
  }).join("; ");
}

function setStatus(text) {
  byId("status").textContent = text;
}

function showError(error) {
  const box = byId("error");
  box.hidden = !error;
  box.textContent = error ? error.message : "";
  byId("token-form").hidden = !(error instanceof ServiceError && error.status === 401);
  if (error) setStatus("");
}

function showSection(id) {
  for (const each of ["drop", "live", "viewer"]) byId(each).hidden = each !== id;
}

async function start() {
  try {
    const names = await listModels();
    byId("model").replaceChildren(...names.map((name) => new Option(name, name)));
    byId("model-choice").hidden = names.length < 2;
    await choose(names[0]);
    showError(null);
  } catch (error) {
    showError(error);
  }
}

async function choose(name) {
  state.model = await describeModel(name);
  const tasks = [...new Set(Object.values(state.model.heads).map((head) => head.task))].join(", ");
  byId("about").textContent = `${name}: ${tasks}`;
  if (state.file) await run(state.file);
}

function defaultThreshold() {
  const values = Object.values(state.model.heads).map((head) => head.thresholds.score).filter((value) => value > 0);
  return values.length ? Math.max(0.05, Math.min(...values)) : 0.5;
}

/** Predicts on an image file and shows the result. */
async function run(file) {
  state.file = file;
  if (!state.model) return; // once there is one, it is used
  state.stop?.abort();
  const stop = state.stop = new AbortController();
  showError(null);
  setStatus("Predicting …");
  byId("heads").replaceChildren();
  byId("threshold-row").hidden = true;
  const image = await createImageBitmap(file).catch(() => null);
  try {
    const began = performance.now();
    const result = await predict(state.model, file, stop.signal);
    if (stop.signal.aborted) return;
    const layers = await layersOf(result, state.model);
    await show(image, result, layers);
    const note = image ? "" : " This browser cannot show this kind of file; its predictions are drawn on grey.";
    setStatus(`Done in ${((performance.now() - began) / 1000).toFixed(2)} s.${note}`);
  } catch (error) {
    if (stop.signal.aborted) return;
    if (!(error instanceof ServiceError)) console.error(error);
    showError(error);
    if (!state.result) showSection("drop");
  }
}

async function show(image, result, layers) {
  Object.assign(state, { result, layers });
  const size = layers.find((layer) => layer.size)?.size ?? (image ? [image.height, image.width] : [256, 256]);
  showSection("viewer");
  view.show(image, size[1], size[0]);
  const scored = layers.some((layer) => layer.items.some((item) => item.score !== undefined
    && (layer.kind !== "scores" || item.several)));
  byId("threshold-row").hidden = !scored;
  byId("threshold").value = scored ? defaultThreshold() : 0;
  listLayers(byId("heads"), layers, threshold(), update);
  update();
}

function threshold() {
  return byId("threshold-row").hidden ? 0 : Number(byId("threshold").value);
}

function update() {
  byId("threshold-value").textContent = threshold().toFixed(2);
  view.setLayers(state.layers, threshold());
  updateCounts(byId("heads"), state.layers, threshold());
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function stem() {
  return (state.file?.name || "image").replace(/\.[^.]*$/, "");
}

async function openCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    byId("video").srcObject = stream;
    await byId("video").play();
    showSection("live");
    byId("shoot").focus();
  } catch (error) {
    showError(new Error(`The camera cannot be used: ${error.message}`));
  }
}

function closeCamera() {
  byId("video").srcObject?.getTracks().forEach((track) => track.stop());
  byId("video").srcObject = null;
}

function takePhoto() {
  const video = byId("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  canvas.toBlob((blob) => run(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95);
}

function listen() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("another").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    byId("file").value = "";
    if (file) run(file);
  });
  byId("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  byId("camera").addEventListener("click", openCamera);
  byId("shoot").addEventListener("click", takePhoto);
  byId("no-camera").addEventListener("click", () => {
    closeCamera();
    showSection(state.result ? "viewer" : "drop");
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) run(file);
    else showError(new Error("That was not a file: drop an image file."));
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) run(file);
    else if (event.target === document.body) showError(new Error("There is no image on the clipboard."));
  });
  byId("model").addEventListener("change", () => choose(byId("model").value).catch(showError));
  byId("threshold").addEventListener("input", update);
  byId("zoom-in").addEventListener("click", () => view.zoom(1.25));
  byId("zoom-out").addEventListener("click", () => view.zoom(0.8));
  byId("zoom-fit").addEventListener("click", () => view.fit());
  byId("save-json").addEventListener("click", () => save(
    new Blob([JSON.stringify(state.result, null, 2)], { type: "application/json" }), `${stem()}.json`));
  byId("save-png").addEventListener("click", async () => save(await view.toPng(), `${stem()}-predictions.png`));
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token").value.trim());
    start();
  });
}

listen();
start();
