// Full-text search: questions, passages and choices, and the answers that are texts, chunk by chunk, with progress.
// A question is found where each searched word stands in one of its texts; "words in quotes" are one.
const SEARCH_DELAY = 200; // milliseconds after the last key
const CHUNKS_PER_DRAW = 20;
const searchTexts = []; // by chunk, the texts of each question, in lower case, once they were read
let searchedPassages = null; // all passages in lower case
let searchNumber = 0; // of the newest search; an older one stops

const chunkCount = Math.ceil(questionCount / index.questionsPerChunk);
const textTasks = new Set(index.textTasks);
const SEPARATOR = "\n\u0000\n"; // between texts, so that no words are found across two

const readSearchTexts = async (chunk) => {
  const start = chunk * index.questionsPerChunk,
    end = Math.min(questionCount, start + index.questionsPerChunk);
  const hasTextAnswers = textTasks.has(taskOf(start)) || textTasks.has(taskOf(end - 1));
  // Not kept as chunks: a search reads all of them once.
  const [texts, answers] = await Promise.all([
    index.hasTexts ? unpackElement(`texts-${chunk}`) : [],
    hasTextAnswers ? unpackElement(`answers-${chunk}`) : [],
  ]);
  return Array.from({ length: end - start }, (_, place) => {
    const [question, passage, choices] = texts[place] || ["", -1, []];
    const textAnswers = ((answers[place] || {}).results || []).flatMap((entry) =>
      entry ? entry.a.filter((answer) => typeof answer === "string") : [],
    );
    return [[question, ...choices, ...textAnswers].join(SEPARATOR).toLowerCase(), passage];
  });
};
const readPassages = async () => {
  const passages = [];
  if (!index.hasTexts) return passages;
  await wholePage;
  for (let chunk = 0; byId(`passages-${chunk}`); chunk++) passages.push(...(await unpackElement(`passages-${chunk}`)));
  return passages.map((passage) => passage.toLowerCase());
};
const searchedWords = (query) =>
  [...query.toLowerCase().matchAll(/"([^"]+)"|(\S+)/g)].map((match) => match[1] || match[2]);

const search = async () => {
  const ownNumber = ++searchNumber,
    words = searchedWords(byId("search").value);
  if (!words.length) {
    searchHits = null;
    applyFilters();
    return;
  }
  searchHits = new Uint8Array(questionCount);
  searchedPassages ??= await readPassages();
  if (ownNumber !== searchNumber) return;
  const passageHits = words.map((word) => searchedPassages.map((passage) => passage.includes(word)));
  for (let chunk = 0; chunk < chunkCount; chunk++) {
    if (!searchTexts[chunk]) {
      if (chunk % CHUNKS_PER_DRAW === 0) applyFilters(chunk / chunkCount);
      searchTexts[chunk] = await readSearchTexts(chunk);
      if (ownNumber !== searchNumber) return;
    }
    searchTexts[chunk].forEach(([text, passage], place) => {
      const hasWord = (word, wordPlace) => text.includes(word) || (passage >= 0 && passageHits[wordPlace][passage]);
      if (words.every(hasWord)) searchHits[chunk * index.questionsPerChunk + place] = 1;
    });
  }
  applyFilters();
};
let searchTimer = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, SEARCH_DELAY);
});
