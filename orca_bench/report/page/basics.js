// What every other script uses: elements, the index of the questions, and how texts and scores are shown.
// Everything that is displayed goes through textContent: nothing a model or a data set wrote is ever parsed as HTML.
const byId = (id) => document.getElementById(id);

/** An element; `properties` are text, kind (its class), and attributes; `children` are nodes or texts. */
const make = (tag, { text, kind, ...attributes } = {}, ...children) => {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

const makeButton = (text, kind, onClick) => {
  const button = make("button", { text, kind, type: "button" });
  button.addEventListener("click", onClick);
  return button;
};

const index = JSON.parse(byId("page-index").textContent);
const questionCount = index.rows.length;
const resultNames = index.results.map((result) => result.name);
const resultCount = resultNames.length;
const taskTitles = Object.fromEntries(index.tasks.map(([name, title]) => [name, title]));
const taskMetrics = Object.fromEntries(index.tasks.map(([name, , metric]) => [name, metric]));
const FEW_RESULTS = 4; // up to so many results each have their own marks and bars

const partNumbers = new Uint16Array(questionCount);
let filledCount = 0;
for (const [part, count] of index.partRuns) {
  partNumbers.fill(part, filledCount, filledCount + count);
  filledCount += count;
}
const partOf = (question) => index.parts[partNumbers[question]]; // [part, task, suite or ""]
const taskOf = (question) => partOf(question)[1];

// The score of each question in each result; NaN where the result has no such question.
const scores = index.outcomes.map((characters, result) => {
  const values = new Float32Array(questionCount);
  let fractionCount = 0;
  for (let question = 0; question < questionCount; question++) {
    const character = characters[question];
    if (character === "f") values[question] = index.fractions[result][fractionCount++];
    else values[question] = character === "." ? NaN : character === "1" ? 1 : 0;
  }
  return values;
});
const isPresent = (result, question) => !Number.isNaN(scores[result][question]);
const isRight = (result, question) => scores[result][question] >= 0.5; // of F1 and mc2 too, which are seldom 1
const isWrong = (result, question) => scores[result][question] < 0.5 && scores[result][question] >= 0; // no log-likelihood

// By result, the questions that are in its training records, each with the share of it in percent.
const overlaps = resultNames.map((_, result) => new Map(index.overlaps ? index.overlaps[result] : []));
const isInRecords = (question) => overlaps.some((shares) => shares.has(question));

const differences = new Uint8Array(questionCount); // 1 where one result is right and another wrong
for (let question = 0; question < questionCount; question++) {
  let rightCount = 0,
    wrongCount = 0;
  for (let result = 0; result < resultCount; result++) {
    if (isRight(result, question)) rightCount++;
    else if (isWrong(result, question)) wrongCount++;
  }
  if (rightCount && wrongCount) differences[question] = 1;
}

/** `ARC-Challenge`, or `MMLU anatomy` for a part of a task. */
const partTitle = (question) => {
  const [part, task, suite] = partOf(question);
  const title = taskTitles[task] || task;
  let subject =
    part !== task && part.startsWith(`${task}_`) ? ` ${part.slice(task.length + 1).replaceAll("_", " ")}` : "";
  if (!subject && part !== task && title === task) subject = ` ${part}`; // a task of a group that is not of the suite
  return `${title}${subject}${suite ? ` (${suite})` : ""}`;
};
const questionTitle = (question) => `${partTitle(question)}, row ${index.rows[question]}`;

/** ✓, ✗ or a score between, and how a screen reader says it. */
const outcomeSign = (score) => (Number.isNaN(score) ? "–" : score === 1 ? "✓" : score === 0 ? "✗" : score.toFixed(2));
const outcomeWords = (score) =>
  Number.isNaN(score) ? "not asked" : score === 1 ? "right" : score === 0 ? "wrong" : `score ${score.toFixed(2)}`;
const outcomeText = (score) => (score === 1 || score === 0 ? `${outcomeSign(score)} ` : "") + outcomeWords(score);
const outcomeKind = (score) =>
  Number.isNaN(score) || score < 0 || score > 1 ? "" : score >= 0.5 ? "right" : "wrong"; // a log-likelihood is neither

/** The coloured mark of a result. */
const makeDot = (result) => {
  const dot = make("span", { kind: "dot" });
  dot.style.setProperty("--color", index.results[result].color);
  return dot;
};
const makeName = (result) =>
  make("span", { kind: "name" }, makeDot(result), make("bdi", { text: resultNames[result] }));
const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const counted = (count) => count.toLocaleString("en");
