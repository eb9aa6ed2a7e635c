// Requests to the service that this page comes from.

let token = "";

export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(text) {
  token = text;
}

async function request(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ServiceError(0, "The service cannot be reached. Is it still running?");
  }
  const text = await response.text();
  let values;
  try {
    values = JSON.parse(text);
  } catch {
    throw new ServiceError(response.status, `The service answered ${response.status} without a reason.`);
  }
  if (!response.ok) throw new ServiceError(response.status, values.error.message);
  return values;
}

export async function listModels() {
  return (await request("/v1/models")).models;
}

export function describeModel(name) {
  return request(`/v1/model?model=${encodeURIComponent(name)}`);
}

/** The result of one image: an object with the part of each head by its name. */
export async function predict(model, file, signal) {
  const query = new URLSearchParams({ model: model.name });
  if (model.options.includes("threshold")) query.set("threshold", "0.05");
  const values = await request(`/v1/predict?${query}`, { method: "POST", body: file, signal });
  const { result } = values.results[0];
  return typeof result.task === "string" ? { [result.task]: result } : result;
}
