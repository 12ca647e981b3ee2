// What the models answered to one question: choices with their probabilities, or texts.
const MOST_LINES = 8,
  MOST_CHARACTERS = 700; // of a text at first
const CHOICE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** The first lines of a text in a block; blank lines have a sign, so that they are seen, and many of them one line. */
const fillBeginning = (block, lines) => {
  const nodes = [];
  let place = 0,
    lineCount = 0,
    characterCount = 0;
  while (place < lines.length && lineCount < MOST_LINES && characterCount < MOST_CHARACTERS) {
    if (lineCount) nodes.push("\n");
    let blankCount = 0;
    while (place + blankCount < lines.length && lines[place + blankCount].trim() === "") blankCount++;
    if (blankCount > 2) {
      nodes.push(make("span", { kind: "blank", text: `⏎ × ${blankCount}` }));
      place += blankCount;
    } else if (blankCount) {
      nodes.push(make("span", { kind: "blank", text: "⏎" }));
      place++;
    } else {
      const line = lines[place].slice(0, MOST_CHARACTERS - characterCount);
      nodes.push(line);
      characterCount += line.length;
      if (line.length === lines[place].length) place++;
    }
    lineCount++;
  }
  block.replaceChildren(...nodes);
  return place === lines.length; // whether it is all of it
};
/** A text, clamped to some lines, with a button that shows all of it. */
const makeText = (value, kind = "") => {
  const text = asText(value),
    lines = text.split("\n");
  const block = make("pre", { kind: `text ${kind}`, dir: "auto" });
  if (text === "") return [make("p", { kind: "hint", text: "(it answered nothing)" })];
  if (fillBeginning(block, lines)) return [block];
  const showAll = `show all ${counted(lines.length)} lines, ${counted(text.length)} characters`;
  const button = makeButton(showAll, "more", () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    if (isOpen) fillBeginning(block, lines);
    else block.textContent = text; // as it is, so that it can be copied
    button.setAttribute("aria-expanded", String(!isOpen));
    button.textContent = isOpen ? showAll : "show less";
  });
  button.setAttribute("aria-expanded", "false");
  block.classList.add("clamped");
  return [block, button];
};

const isChoiceEntry = (entry) => entry.a.length > 0 && entry.a.every((answer) => typeof answer === "number");
/** Probabilities of the choices among themselves, from their log-probabilities. */
const softmax = (logProbabilities) => {
  const largest = Math.max(...logProbabilities);
  const weights = logProbabilities.map((value) => Math.exp(value - largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
};
const percentText = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const makeBar = (share, color) => {
  const bar = make("span", { kind: "share", "aria-hidden": "true" }, make("span"));
  bar.style.setProperty("--share", share);
  if (color) bar.style.setProperty("--color", color);
  return bar;
};

/** One set of choices: texts (null: not known), the right ones, and for each result its log-probabilities and prediction. */
const makeChoices = (choiceTexts, rightChoices, answers) => {
  const items = answers[0].logProbabilities.map((_, choice) => {
    const isRightChoice = rightChoices.has(choice);
    const text = choiceTexts ? choiceTexts[choice] : "(its words are not in this page)";
    const head = make(
      "p",
      { kind: "choice-text", dir: "auto" },
      make("b", { text: CHOICE_LETTERS[choice] || String(choice + 1) }),
      " ",
      text,
    );
    if (isRightChoice) head.append(" ", make("span", { kind: "badge right", text: "✓ right" }));
    const item = make("li", { kind: isRightChoice ? "choice gold" : "choice" }, head);
    if (answers.length > FEW_RESULTS) {
      const predictingCount = answers.filter((answer) => answer.prediction === choice).length;
      item.append(
        make(
          "p",
          { kind: "result-share" },
          makeBar(predictingCount / answers.length),
          `chosen by ${predictingCount} of ${answers.length}`,
        ),
      );
      return item;
    }
    for (const answer of answers) {
      const line = make(
        "p",
        { kind: "result-share" },
        makeName(answer.result),
        makeBar(answer.shares[choice], index.results[answer.result].color),
        make("span", { kind: "percent", text: percentText(answer.shares[choice]) }),
      );
      line.append(make("span", { kind: "chosen", text: answer.prediction === choice ? "chosen" : "" }));
      item.append(line);
    }
    return item;
  });
  const parts = [make("ol", { kind: "choices" }, ...items)];
  if (answers.length > FEW_RESULTS) parts.push(makeShareTable(answers, rightChoices));
  return parts;
};
/** The probabilities of many results, folded. */
const makeShareTable = (answers, rightChoices) => {
  const letters = answers[0].shares.map(
    (_, choice) => `${CHOICE_LETTERS[choice] || choice + 1}${rightChoices.has(choice) ? " ✓" : ""}`,
  );
  const head = make(
    "tr",
    {},
    make("th", { text: "Model", scope: "col" }),
    ...letters.map((text) => make("th", { text, scope: "col" })),
  );
  const rows = answers.map((answer) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, makeName(answer.result)),
      ...answer.shares.map((share, choice) =>
        make("td", { text: percentText(share), kind: answer.prediction === choice ? "predicted" : "" }),
      ),
    ),
  );
  return make(
    "details",
    {},
    make("summary", { text: "Probabilities of each model (bold: chosen)" }),
    make(
      "div",
      { kind: "scroll", tabindex: "0", role: "region", "aria-label": "Probabilities" },
      make("table", { kind: "shares" }, head, ...rows),
    ),
  );
};
const RULES = {
  acc_norm: "Bars: probability among the choices. Chosen is the choice with the highest log-probability per character.",
  mc2: "Bars: probability among the choices. The score is the sum over the right ones.",
};
const makeRule = (metric) =>
  make("p", { kind: "hint", text: RULES[metric] || "Bars: probability among the choices. Chosen is the highest." });

/** What one result wrote. */
const makeTextAnswer = (entry, result, question) => {
  const score = scores[result][question];
  const head = make(
    "h4",
    {},
    makeName(result),
    make("span", { kind: `badge ${outcomeKind(score)}`, text: outcomeText(score) }),
  );
  const box = make("section", { kind: "answer" }, head);
  box.style.setProperty("--color", index.results[result].color);
  const texts = entry.a.length ? entry.a : [""];
  for (const answer of texts) box.append(...makeText(answer));
  const notes = [];
  if (entry.p !== undefined && !entry.a.includes(entry.p))
    notes.push(`read as: ${asText(entry.p)}${entry.rule ? ` (by ${entry.rule})` : ""}`);
  if (entry.ranOut) notes.push("stopped at its token limit");
  if (notes.length) box.append(make("p", { kind: "hint", text: notes.join(" · ") }));
  if (entry.g !== undefined) box.append(make("p", { kind: "hint", text: `right: ${goldText(entry.g)}` }));
  for (const whole of (entry.whole || []).filter((text) => text)) {
    box.append(
      make(
        "details",
        {},
        make("summary", { text: "The whole text, whose first tokens the protocol removes" }),
        ...makeText(whole),
      ),
    );
  }
  return box;
};
const goldText = (gold) => {
  if (!Array.isArray(gold)) return asText(gold);
  return gold.map((answer) => (Array.isArray(answer) ? answer.join(", ") : asText(answer))).join("  or  ");
};
