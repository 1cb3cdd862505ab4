// Does as a user of a Chroma server what an application can. Reads from standard input where the server is, and
// the ways to come in: the headers of each, and the name of the collection that it tries to create. Prints what
// came of each operation. Run in the folder with `node_modules`.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const resolve = createRequire(`${process.cwd()}/package.json`).resolve;
const { ChromaClient } = await import(pathToFileURL(resolve("chromadb")).href);

const SHARED = { name: "shared", embeddingFunction: null };
const NEW = { ids: ["new"], embeddings: [[1, 1]], documents: ["three"] };

async function use(host, port, { headers, name }) {
  const client = new ChromaClient({ host, port, headers });
  const shared = await client.getCollection(SHARED);
  const operations = {
    heartbeat: () => client.heartbeat(),
    version: () => client.version(),
    list_collections: () => client.listCollections(),
    count_collections: () => client.countCollections(),
    get_collection: () => client.getCollection(SHARED),
    get_or_create_collection: () => client.getOrCreateCollection({ ...SHARED, metadata: { changed: "yes" } }),
    get_missing_collection: () => client.getCollection({ name, embeddingFunction: null }),
    count: () => shared.count(),
    peek: () => shared.peek({}),
    get: () => shared.get({ ids: ["a"] }),
    query: () => shared.query({ queryEmbeddings: [[0, 2]], nResults: 1 }),
    add: () => shared.add(NEW),
    update: () => shared.update(NEW),
    upsert: () => shared.upsert(NEW),
    delete: () => shared.delete({ ids: ["new"] }),
    modify: () => shared.modify({ metadata: { changed: "yes" } }),
    get_or_create_missing_collection: () => client.getOrCreateCollection({ name, embeddingFunction: null }),
    create_collection: () => client.createCollection({ name: `${name}-2`, embeddingFunction: null }),
    delete_collection: () => client.deleteCollection({ name: "shared" }),
    reset: () => client.reset(),
  };
  const results = {};
  for (const [operation, call] of Object.entries(operations)) {
    try {
      await call();
      results[operation] = "done";
    } catch (error) {
      results[operation] = `${error.constructor.name}: ${error.message}`;
    }
  }
  return results;
}

const { host, port, ways } = JSON.parse(readFileSync(0, "utf8"));
const results = [];
for (const way of ways) results.push(await use(host, port, way));
process.stdout.write(JSON.stringify(results));
