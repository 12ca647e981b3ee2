// The pane of one question: the question first, then choices or texts, then, folded, the request and the identifiers.
const detail = byId("detail");

const makeHeader = (question) => {
  const marks = resultNames.flatMap((_, result) =>
    isPresent(result, question)
      ? [
          make(
            "span",
            { kind: `badge ${outcomeKind(scores[result][question])}` },
            makeName(result),
            ` ${outcomeText(scores[result][question])}`,
          ),
        ]
      : [],
  );
  const steps = make(
    "span",
    { kind: "steps" },
    makeButton("‹ previous", "", () => chooseWithin(current - 1)),
    makeButton("next ›", "", () => chooseWithin(current + 1)),
  );
  if (resultCount > 1) steps.append(makeButton("next difference", "", chooseNextDifference));
  return [
    make("div", { kind: "detail-head" }, make("h3", { text: questionTitle(question) }), steps),
    make("p", { kind: "outcomes" }, ...marks),
    ...resultNames.flatMap((_, result) =>
      overlaps[result].has(question)
        ? [
            make(
              "p",
              { kind: "hint overlap" },
              makeName(result),
              `: ${overlaps[result].get(question)} % of the question is in the training records`,
            ),
          ]
        : [],
    ),
  ];
};

const makeQuestion = async (texts) => {
  if (!texts) {
    const reason = index.hasTexts
      ? "The words of this question are not in this page: the rows that were at hand are others, or could not be read."
      : "The words of the questions are not in this page. They are in the benchmark's rows: write it again with --benchmarks FOLDER.";
    return [make("p", { kind: "hint missing", text: reason })];
  }
  const [question, passageNumber] = texts;
  const nodes = [make("p", { kind: "question", text: question, dir: "auto" })];
  if (passageNumber >= 0) {
    const passage = await valueOf("passages", passageNumber, index.passagesPerChunk);
    nodes.push(make("h4", { text: "Passage" }), ...makeText(passage, "passage"));
  }
  return nodes;
};

/** Choices, each set once: those of the score, and where a protocol sent mc1's before them, these folded. */
const makeChoiceAnswers = (question, texts, answers, entries) => {
  const knownChoices = texts && texts[2].length ? texts[2] : null;
  const nodes = [],
    mc1Nodes = [];
  const groups = new Map(); // by how many choices the score counts and which of them are right
  for (const [entry, result] of entries) {
    const count = knownChoices && knownChoices.length <= entry.a.length ? knownChoices.length : entry.a.length;
    const gold = "gold" in answers ? answers.gold : entry.g;
    const key = JSON.stringify([count, gold]);
    if (!groups.has(key)) groups.set(key, { count, rightChoices: new Set([gold].flat()), members: [] });
    groups.get(key).members.push([entry, result]);
  }
  for (const { count, rightChoices, members } of groups.values()) {
    const isOneSet = knownChoices !== null && knownChoices.length === count;
    const hasOnlyOwn = members.every(([entry]) => entry.mc1 === undefined) || isOneSet;
    const choiceAnswers = members.map(([entry, result]) => {
      const logProbabilities = entry.a.slice(-count);
      return {
        result,
        logProbabilities,
        shares: softmax(logProbabilities),
        prediction: hasOnlyOwn ? entry.p : undefined,
      };
    });
    nodes.push(...makeChoices(isOneSet ? knownChoices : null, hasOnlyOwn ? rightChoices : new Set(), choiceAnswers));
    if (!hasOnlyOwn)
      nodes.push(
        make("p", {
          kind: "hint",
          text: "mc1's choices stand before mc2's; without the rows it is not known where they part.",
        }),
      );
    for (const [entry, result] of members) {
      if (entry.a.length === count) continue;
      const own = entry.a.slice(0, -count),
        shares = softmax(own);
      mc1Nodes.push(
        make(
          "p",
          {},
          makeName(result),
          ` mc1: ${outcomeWords(entry.mc1 ?? NaN)}; `,
          shares.map((share, choice) => `${choice === 0 ? "right one " : ""}${percentText(share)}`).join(", "),
        ),
      );
    }
  }
  nodes.push(makeRule(taskMetrics[taskOf(question)]));
  if (mc1Nodes.length)
    nodes.push(
      make(
        "details",
        {},
        make("summary", { text: "mc1: the same question with one right choice, which stands first" }),
        ...mc1Nodes,
      ),
    );
  return nodes;
};

const makeAnswers = (question, texts, answers) => {
  const entries = answers.results.flatMap((entry, result) => (entry === null ? [] : [[entry, result]]));
  const choiceEntries = entries.filter(([entry]) => isChoiceEntry(entry));
  const textEntries = entries.filter(([entry]) => !isChoiceEntry(entry));
  const nodes = choiceEntries.length ? makeChoiceAnswers(question, texts, answers, choiceEntries) : [];
  if (textEntries.length) {
    if ("gold" in answers && answers.gold !== null)
      nodes.push(
        make(
          "p",
          { kind: "gold-text" },
          make("b", { text: "Right answer: " }),
          make("span", { text: goldText(answers.gold), dir: "auto" }),
        ),
      );
    nodes.push(...textEntries.map(([entry, result]) => makeTextAnswer(entry, result, question)));
  }
  return nodes;
};

const copyText = async (text, button) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { kind: "copied" }); // where the clipboard may not be written, as in older browsers
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => {
    button.textContent = "copy";
  }, 1500);
};
const fillRequest = async (box, [, contexts, requests]) => {
  for (const [number, lineNumbers] of contexts.entries()) {
    const context = await contextOf(lineNumbers);
    const button = makeButton("copy", "copy", () => copyText(context, button));
    const block = make("pre", { text: context, kind: "context", tabindex: "0", dir: "auto" });
    const title = contexts.length > 1 ? `Context ${number + 1} of ${contexts.length}` : "Context";
    box.append(make("h5", {}, `${title}, ${counted(context.length)} characters `, button), block);
    const own = requests.filter(([contextNumber]) => contextNumber === number);
    const continuations = own.map(([, continuation]) => continuation).filter((continuation) => continuation !== null);
    if (continuations.length)
      box.append(
        make("h5", { text: "Continuations, each scored after it" }),
        make("pre", { text: continuations.map((text) => JSON.stringify(text)).join("\n"), kind: "continuations" }),
      );
    const stops = [...new Set(own.flatMap(([, , stopStrings]) => stopStrings))];
    if (stops.length)
      box.append(
        make("p", {
          kind: "hint",
          text: `The answer ends at ${stops.map((stop) => JSON.stringify(stop)).join(", ")}.`,
        }),
      );
  }
};
const makeRequests = (question, texts) => {
  const box = make("div", { kind: "requests" });
  questionValue("requests", question).then((forms) => {
    for (const form of forms) {
      const names =
        form[0].length === resultCount ? "" : ` to ${form[0].map((result) => resultNames[result]).join(", ")}`;
      const fold = make(
        "details",
        { kind: "request" },
        make("summary", { text: `The whole request, as it was sent${names}` }),
      );
      let isFilled = false;
      fold.addEventListener("toggle", () => {
        if (isFilled || !fold.open) return;
        isFilled = true;
        fillRequest(fold, form);
      });
      box.append(fold);
    }
    if (!forms.length && texts)
      box.append(
        make("p", {
          kind: "hint missing",
          text: "The request is not in this page: it could not be made again from the rows.",
        }),
      );
  });
  return box;
};
const makeIdentifiers = (question, answers) => {
  const [part, , suite] = partOf(question);
  const facts = [
    ["part", part],
    ["row", index.rows[question]],
    ["address", addressOf(question)],
  ];
  if (suite) facts.unshift(["suite", suite]);
  if (answers.cluster) facts.push(["cluster", answers.cluster]);
  answers.results.forEach((entry, result) => {
    if (entry && isChoiceEntry(entry)) facts.push([`log-probabilities, ${resultNames[result]}`, entry.a.join(", ")]);
  });
  return make(
    "details",
    { kind: "identifiers" },
    make("summary", { text: "Identifiers and log-probabilities" }),
    make(
      "dl",
      {},
      ...facts.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: String(value) })]),
    ),
  );
};

/** Show a question, unless another one was chosen in the meantime. */
const showQuestion = async (question) => {
  const [texts, answers] = await Promise.all([
    index.hasTexts ? questionValue("texts", question) : null,
    questionValue("answers", question),
  ]);
  const questionNodes = await makeQuestion(texts);
  if (matches[current] !== question) return;
  detail.replaceChildren(
    ...makeHeader(question),
    ...questionNodes,
    ...makeAnswers(question, texts, answers),
    makeRequests(question, texts),
    makeIdentifiers(question, answers),
  );
  detail.setAttribute("aria-label", questionTitle(question));
  detail.dataset.question = question;
  detail.scrollTop = 0;
};
