// Uses a Chroma server as an application does. Reads from standard input where the server is and
// the headers to come in with; prints what came of each. Run in the folder with `node_modules`.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

const resolve = createRequire(`${process.cwd()}/package.json`).resolve;
const { ChromaClient } = await import(pathToFileURL(resolve("chromadb")).href);

async function use(host, port, ssl, headers) {
  const client = new ChromaClient({ host, port, ssl, headers });
  const name = `c-${randomUUID()}`;
  const collection = await client.createCollection({ name, embeddingFunction: null });
  await collection.add({ ids: ["a", "b"], embeddings: [[1, 0], [0, 1]], documents: ["one", "two"] });
  const found = await collection.query({ queryEmbeddings: [[0, 2]], nResults: 1 });
  if (found.documents[0][0] !== "two") throw new Error(JSON.stringify(found));
  await client.deleteCollection({ name });
}

const { host, port, ssl = false, ways } = JSON.parse(readFileSync(0, "utf8"));
const results = [];
for (const headers of ways) {
  try {
    await use(host, port, ssl, headers ?? undefined);
    results.push("served");
  } catch (error) {
    results.push(`${error.constructor.name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify(results));
