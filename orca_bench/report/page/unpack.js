// The compressed chunks of the page: unpacked when they are needed, the last ones kept in memory.
const MOST_CHUNKS = 60;
const unpackedChunks = new Map(); // promises of chunks by element id, the oldest first

// The chunks stand behind the script, so that a large page answers while it is still being read.
const wholePage = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
});

const bytesOfBase64 = (text) => {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text),
    bytes = new Uint8Array(characters.length);
  for (let place = 0; place < characters.length; place++) bytes[place] = characters.charCodeAt(place);
  return bytes;
};

const unpackElement = async (id) => {
  if (!byId(id)) await wholePage;
  const stream = new Blob([bytesOfBase64(byId(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

/** The values of a chunk, from memory where it was used lately. */
const chunkOf = (kind, number) => {
  const id = `${kind}-${number}`;
  const chunk = unpackedChunks.get(id) || unpackElement(id);
  unpackedChunks.delete(id);
  unpackedChunks.set(id, chunk);
  if (unpackedChunks.size > MOST_CHUNKS) unpackedChunks.delete(unpackedChunks.keys().next().value);
  return chunk;
};
const valueOf = async (kind, place, perChunk) => (await chunkOf(kind, Math.floor(place / perChunk)))[place % perChunk];
const questionValue = (kind, question) => valueOf(kind, question, index.questionsPerChunk);

/** A context from the numbers of its lines. */
const contextOf = async (lineNumbers) => {
  const lines = await Promise.all(lineNumbers.map((number) => valueOf("lines", number, index.linesPerChunk)));
  return lines.join("\n");
};
