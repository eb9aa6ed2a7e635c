// Sends images to `fishnet serve`: node predict.mjs http://127.0.0.1:8000 a.jpg b.png
import { readFile } from "node:fs/promises";

const [address, ...images] = process.argv.slice(2);
const token = process.env.FISHNET_TOKEN;

for (const image of images) {
  const response = await fetch(`${address}/v1/predict`, {
    method: "POST",
    body: await readFile(image),
    headers: { "Content-Type": "application/octet-stream", ...(token && { Authorization: `Bearer ${token}` }) },
  });
  const answer = await response.json();
  if (!response.ok) {
    console.error(`${image}: ${answer.error.message}`);
    process.exitCode = 1;
    continue;
  }
  console.log(JSON.stringify({ image, ...answer.results[0].result }));
}
