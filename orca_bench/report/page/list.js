// The list of questions: filters, the lines in sight, and the keys.
const LINE_HEIGHT = 50; // pixels, as in questions.css
const LINES_PER_PAGE = 10;
const list = byId("list"),
  lineBox = byId("rows");
let listWords = []; // the beginning of each question
let matches = []; // the questions that pass the filters
let current = -1; // the place of the open question among the matches
let searchHits = null; // by question, whether it has the searched words; null where nothing is searched

const addOption = (select, value, text) => {
  const option = make("option", { text });
  option.value = value;
  select.append(option);
};

const everyResult = (condition) => (question) => {
  let presentCount = 0;
  for (let result = 0; result < resultCount; result++) {
    if (!isPresent(result, question)) continue;
    if (!condition(result, question)) return false;
    presentCount++;
  }
  return presentCount > 0;
};
const ownOutcomes = resultNames.flatMap((name, result) => [
  [`${name} right`, (question) => isRight(result, question)],
  [`${name} wrong`, (question) => isWrong(result, question)],
]);
const outcomes = [["all", () => true]];
if (resultCount > 1) {
  outcomes.push(["where they differ", (question) => differences[question] === 1]);
  if (resultCount <= FEW_RESULTS) {
    resultNames.forEach((name, left) =>
      resultNames.forEach((other, right) => {
        const isPair = (question) => isRight(left, question) && isWrong(right, question);
        if (left !== right) outcomes.push([`${name} right, ${other} wrong`, isPair]);
      }),
    );
  }
  outcomes.push(["all right", everyResult(isRight)], ["all wrong", everyResult(isWrong)]);
}
outcomes.push(...ownOutcomes);
if (index.overlaps)
  outcomes.push(
    ["in training records", isInRecords],
    ["not in training records", (question) => !isInRecords(question)],
  );
const secondOutcomes = [["anything", () => true], ...ownOutcomes];

addOption(byId("task"), "", "all");
for (const [name, title] of index.tasks) addOption(byId("task"), name, title);
outcomes.forEach(([text], place) => addOption(byId("outcome"), place, text));
secondOutcomes.forEach(([text], place) => addOption(byId("second-outcome"), place, text));
byId("second-outcome-label").hidden = resultCount <= FEW_RESULTS; // few results have their pairs in the first list
byId("legend").append(
  ...(resultCount <= FEW_RESULTS
    ? resultNames.map((_, result) => makeName(result))
    : [`${resultCount} results, in the order of the table`]),
);

const lineId = (place) => `question-${place}`;
const makeMark = (result, question) => {
  const score = scores[result][question];
  return make(
    "span",
    { kind: `mark ${outcomeKind(score)}`, title: `${resultNames[result]}: ${outcomeWords(score)}` },
    makeDot(result),
    outcomeSign(score),
  );
};
const makeMarks = (question) => {
  if (resultCount <= FEW_RESULTS)
    return make("span", { kind: "marks" }, ...resultNames.map((_, result) => makeMark(result, question)));
  const cells = resultNames.map((_, result) => make("i", { kind: `cell ${outcomeKind(scores[result][question])}` }));
  const rightCount = resultNames.filter((_, result) => isRight(result, question)).length;
  return make("span", { kind: "marks" }, ...cells, ` ${rightCount}/${resultCount}`);
};
const lineWords = (question) => listWords[question] || questionTitle(question);
const makeLine = (place) => {
  const question = matches[place],
    isCurrent = place === current;
  const outcomeList =
    resultCount <= FEW_RESULTS
      ? resultNames.map((name, result) => `${name} ${outcomeWords(scores[result][question])}`).join(", ")
      : differences[question]
        ? "they differ"
        : "they agree";
  const line = make("div", {
    kind: `line${isCurrent ? " current" : ""}`,
    role: "option",
    id: lineId(place),
    "aria-selected": String(isCurrent),
    "aria-setsize": matches.length,
    "aria-posinset": place + 1,
    "aria-label": `${lineWords(question)}; ${questionTitle(question)}; ${outcomeList}`,
  });
  line.dataset.place = place;
  line.append(
    make("span", { kind: "words", text: lineWords(question), dir: "auto" }),
    make(
      "span",
      { kind: "about" },
      make("span", { kind: "part", text: `${partTitle(question)} · ${index.rows[question]}` }),
      makeMarks(question),
    ),
  );
  return line;
};
const drawLines = () => {
  const start = Math.max(0, Math.floor(list.scrollTop / LINE_HEIGHT) - 5);
  const end = Math.min(matches.length, start + Math.ceil(list.clientHeight / LINE_HEIGHT) + 10);
  lineBox.style.top = `${start * LINE_HEIGHT}px`;
  lineBox.replaceChildren(...Array.from({ length: Math.max(0, end - start) }, (_, place) => makeLine(start + place)));
  const isInSight = current >= start && current < end;
  if (isInSight) list.setAttribute("aria-activedescendant", lineId(current));
  else list.removeAttribute("aria-activedescendant");
};

const showCount = (progress) => {
  const text = `${counted(matches.length)} of ${counted(questionCount)} questions`;
  byId("count").setAttribute("aria-busy", String(progress !== undefined));
  byId("count").textContent = progress === undefined ? text : `${text}; searching, ${Math.floor(100 * progress)} %`;
};
/** Apply all filters; the open question stays open where it passes them. */
const applyFilters = (progress) => {
  const openQuestion = current >= 0 ? matches[current] : -1;
  const task = byId("task").value;
  const passes = outcomes[byId("outcome").value || 0][1],
    passesToo = secondOutcomes[byId("second-outcome").value || 0][1];
  matches = [];
  for (let question = 0; question < questionCount; question++) {
    if (searchHits !== null && !searchHits[question]) continue;
    if (task && taskOf(question) !== task) continue;
    if (passes(question) && passesToo(question)) matches.push(question);
  }
  current = matches.indexOf(openQuestion);
  showCount(progress);
  byId("height").style.height = `${matches.length * LINE_HEIGHT}px`;
  if (progress === undefined || progress === 0) list.scrollTop = Math.max(0, current) * LINE_HEIGHT;
  drawLines();
};

const addressOf = (question) => {
  const [part, , suite] = partOf(question);
  return `#${suite ? `${encodeURIComponent(suite)}:` : ""}${encodeURIComponent(part)}/${index.rows[question]}`;
};
const choose = (place, setsAddress = true) => {
  current = place;
  const top = place * LINE_HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + LINE_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + LINE_HEIGHT - list.clientHeight;
  drawLines();
  if (setsAddress) history.replaceState(null, "", addressOf(matches[place])); // a link to this question
  return showQuestion(matches[place]);
};
const chooseWithin = (place) => {
  if (matches.length) choose(Math.min(matches.length - 1, Math.max(0, place)));
};
const chooseNextDifference = () => {
  for (let step = 1; step <= matches.length; step++) {
    const place = (current + step) % matches.length; // from the last one on it begins again
    if (differences[matches[place]]) return choose(place);
  }
  return null;
};

const KEY_ACTIONS = {
  j: () => chooseWithin(current + 1),
  k: () => chooseWithin(current - 1),
  n: chooseNextDifference,
};
const LIST_KEY_ACTIONS = {
  ArrowDown: KEY_ACTIONS.j,
  ArrowUp: KEY_ACTIONS.k,
  PageDown: () => chooseWithin(current + LINES_PER_PAGE),
  PageUp: () => chooseWithin(current - LINES_PER_PAGE),
  Home: () => chooseWithin(0),
  End: () => chooseWithin(matches.length - 1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  const action = KEY_ACTIONS[event.key] || (list.contains(event.target) ? LIST_KEY_ACTIONS[event.key] : undefined);
  if (!action) return;
  event.preventDefault();
  action();
});
list.addEventListener("scroll", () => requestAnimationFrame(drawLines));
addEventListener("resize", drawLines);
for (const id of ["task", "outcome", "second-outcome"]) byId(id).addEventListener("input", () => applyFilters());
byId("filters").addEventListener("submit", (event) => event.preventDefault());
lineBox.addEventListener("click", (event) => {
  const line = event.target.closest(".line");
  if (!line) return;
  choose(Number(line.dataset.place));
  if (matchMedia("(max-width: 46rem)").matches) byId("detail").scrollIntoView();
});
