"use strict";
// Everything that is displayed goes through textContent: nothing a model wrote is ever parsed as HTML.
(() => {
  const at = (id) => document.getElementById(id);
  const make = (tag, text, kind) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const index = JSON.parse(at("index").textContent);
  const names = index.results;
  const titles = Object.fromEntries(index.tasks.map(([name, title]) => [name, title]));
  const metrics = Object.fromEntries(index.tasks.map(([name, , metric]) => [name, metric]));
  const HEIGHT = 28, MOST = 20000, MOST_CHUNKS = 20; // pixels of a line of the list; characters of a text at first; chunks in memory

  // --- the table: a click on a heading sorts -------------------------------------------------------------------
  const number = (text) => {
    const match = text.replace(/[, ]/g, "").match(/^[+\-−]?\d+(\.\d+)?/);
    return match ? parseFloat(match[0].replace("−", "-")) : null;
  };
  for (const table of document.querySelectorAll("#scores table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [number(key(a)), number(key(b))];
        if (x === null && y === null) return key(a).localeCompare(key(b)) * (down ? 1 : -1);
        if (x === null || y === null) return x === null ? 1 : -1; // what has no number stands last either way
        return down ? y - x : x - y;
      });
      table.tBodies[0].append(...rows);
    }));
  }

  // --- filters -------------------------------------------------------------------------------------------------
  const option = (select, value, text) => {
    const element = make("option", text);
    element.value = value;
    select.append(element);
  };
  option(at("task"), "", "all");
  for (const [name, title] of index.tasks) option(at("task"), name, title);
  const outcomes = [["all", () => true]];
  const good = (score) => score !== null && score >= 0.5; // of F1 and mc2 too, which are seldom 1
  const right = (result, q) => good(index.scores[result][q]);
  const wrong = (result, q) => index.scores[result][q] !== null && !right(result, q);
  names.forEach((name, a) => {
    outcomes.push([`${name}: right`, (q) => right(a, q)], [`${name}: wrong`, (q) => wrong(a, q)]);
  });
  names.forEach((name, a) => names.forEach((other, b) => {
    if (a !== b) outcomes.push([`${name} right, ${other} wrong`, (q) => right(a, q) && wrong(b, q)]);
  }));
  at("columns").textContent = names.join(" · ");
  outcomes.forEach(([text], place) => option(at("outcome"), place, text));

  // --- the list: only the lines in sight are elements ----------------------------------------------------------
  let matches = [], current = -1; // questions that pass the filter; the place of the open one among them
  const list = at("list"), rows = at("rows");
  const part = (q) => index.parts[index.part[q]];
  const line = (place) => {
    const q = matches[place], [name, task] = part(q);
    const element = make("div", undefined, place === current ? "q current" : "q");
    element.dataset.place = place;
    const title = titles[task] || name;
    const label = name.startsWith(`${task}_`) ? `${title} ${name.slice(task.length + 1).replaceAll("_", " ")}` : title;
    element.append(make("span", `${label} · row ${index.row[q]}`, "name"));
    names.forEach((_, result) => {
      const score = index.scores[result][q];
      const text = score === null ? "–" : score === 1 ? "✓" : score === 0 ? "✗" : score.toFixed(2);
      const mark = make("span", text, good(score) ? "ok" : score === null ? "" : "bad");
      mark.title = names[result];
      element.append(mark);
    });
    return element;
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 10);
    const last = Math.min(matches.length, first + Math.ceil(list.clientHeight / HEIGHT) + 20);
    rows.style.top = `${first * HEIGHT}px`;
    rows.replaceChildren(...Array.from({ length: last - first }, (_, i) => line(first + i)));
  };
  const filter = () => {
    const task = at("task").value, keep = outcomes[at("outcome").value || 0][1], row = at("row").value.trim();
    matches = [];
    for (let q = 0; q < index.row.length; q++) {
      if (task && part(q)[1] !== task) continue;
      if (row && String(index.row[q]) !== row) continue;
      if (keep(q)) matches.push(q);
    }
    current = -1;
    at("count").textContent = `${matches.length.toLocaleString("en")} of ${index.row.length.toLocaleString("en")} questions`;
    at("height").style.height = `${matches.length * HEIGHT}px`;
    list.scrollTop = 0;
    draw();
  };
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", draw);
  for (const id of ["task", "outcome", "row"]) at(id).addEventListener("input", filter);
  rows.addEventListener("click", (event) => {
    const hit = event.target.closest(".q");
    if (hit) choose(Number(hit.dataset.place));
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
    if (!step || !matches.length) return;
    event.preventDefault();
    choose(Math.min(matches.length - 1, Math.max(0, current + step)));
  });

  // --- one question --------------------------------------------------------------------------------------------
  const chunks = new Map(); // unpacked chunks by number
  const chunk = async (place) => {
    if (!chunks.has(place)) {
      const bytes = Uint8Array.from(atob(at(`chunk-${place}`).textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      chunks.set(place, JSON.parse(await new Response(stream).text()));
      if (chunks.size > MOST_CHUNKS) chunks.delete(chunks.keys().next().value);
    }
    return chunks.get(place);
  };
  const show = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const text = (value, kind) => {
    const whole = show(value), block = make("pre", whole.slice(0, MOST), kind);
    if (whole.length <= MOST) return [block];
    const more = make("button", `show all ${whole.length.toLocaleString("en")} characters`, "more");
    more.type = "button";
    more.addEventListener("click", () => { block.textContent = whole; more.remove(); });
    return [block, more];
  };
  const context = (value) => {
    const nodes = text(value, "context");
    requestAnimationFrame(() => { nodes[0].scrollTop = nodes[0].scrollHeight; }); // the question stands at the end
    return nodes;
  };
  const answers = (entry, form) => (entry.answers || []).flatMap((answer, place) => {
    const stops = form && form.requests[place] ? form.requests[place][2] : [];
    const nodes = [make("h4", `answer${stops.length ? `, ends at ${JSON.stringify(stops)}` : ""}`), ...text(answer, "answer")];
    const whole = entry.whole && entry.whole[place];
    if (whole) nodes.push(make("h4", "the whole of it, of which the protocol throws the first tokens away"), ...text(whole));
    return nodes;
  });
  // Choices as a table: a line per choice, a column per result. ✓ is the right one, bold is the model's prediction.
  const isChoices = (entry) => Array.isArray(entry.answers) && entry.answers.length && entry.answers.every((a) => typeof a === "number");
  const isRight = (entry, place) => entry.one_set && (Array.isArray(entry.gold) ? entry.gold.includes(place) : entry.gold === place);
  const table = (entries, form, metric) => {
    const requests = form ? form.requests : [], several = form && form.contexts.length > 1;
    const element = make("table", undefined, "choices"), head = make("tr");
    head.append(...["", "choice", ...entries.map(([, name]) => name)].map((name) => make("th", name)));
    element.append(head);
    entries[0][0].answers.forEach((_, place) => {
      const [number, continuation] = requests[place] || [0, null], line = make("tr");
      const label = continuation === null ? `${place}` : `${several ? `context ${number + 1}: ` : ""}${continuation.slice(0, MOST)}`;
      line.append(make("td", isRight(entries[0][0], place) ? "✓" : "", "ok"), make("td", label, "choice"));
      for (const [entry] of entries) {
        line.append(make("td", entry.answers[place].toFixed(3), entry.one_set && entry.prediction === place ? "number predicted" : "number"));
      }
      element.append(line);
    });
    const rule = metric === "acc_norm" ? ": the highest per character" : metric === "mc2" ? ": the highest; the score is the share of the right ones" : ": the highest";
    const note = entries[0][0].one_set ? `log-probabilities; ✓ right, bold taken${rule}` : "log-probabilities, mc1's choices before mc2's";
    return [element, make("p", note, "hint")];
  };
  const verdict = (score) => (score === 1 ? "right" : score === 0 ? "wrong" : score.toFixed(4));
  const detail = (q, question) => {
    const nodes = [make("h3", `${part(q)[0]}, row ${index.row[q]}`)];
    const entries = question.results.map((entry, result) => [entry, names[result]]).filter(([entry]) => entry !== null);
    const groups = new Map(); // entries by the form of their requests; where that is not known, by how many answers there are
    for (const pair of entries) {
      const key = pair[0].form ?? `unknown ${(pair[0].answers || []).length}`;
      groups.set(key, [...(groups.get(key) || []), pair]);
    }
    const golds = new Set(entries.map(([entry]) => JSON.stringify(entry.gold)));
    const tables = entries.every(([entry]) => isChoices(entry));
    if (golds.size === 1 && !(tables && entries[0][0].one_set)) nodes.push(make("h4", "right is"), ...text(entries[0][0].gold));
    for (const [entry, name] of entries) {
      nodes.push(make("h3", `${name}: ${verdict(entry.score)}`, good(entry.score) ? "ok" : "bad"));
      if (!isChoices(entry)) nodes.push(...answers(entry, entry.form === null ? null : question.forms[entry.form]));
      if (!isChoices(entry) || !entry.one_set) nodes.push(make("h4", "taken as"), ...text(entry.prediction));
      if (golds.size > 1) nodes.push(make("h4", "right is"), ...text(entry.gold));
    }
    for (const pairs of groups.values()) {
      const number = pairs[0][0].form, form = number === null ? null : question.forms[number], choices = pairs.filter(([entry]) => isChoices(entry));
      nodes.push(make("h3", `asked of ${pairs.map(([, name]) => name).join(", ")}`));
      if (choices.length) nodes.push(...table(choices, form, metrics[part(q)[1]]));
      if (form === null) {
        nodes.push(make("p", "What was asked is not in this page; write it with the rows (--benchmarks).", "hint"));
        continue;
      }
      form.contexts.forEach((value, place) => {
        nodes.push(make("h4", form.contexts.length > 1 ? `context ${place + 1}` : "context"), ...context(value));
      });
    }
    at("detail").replaceChildren(...nodes);
    at("detail").scrollTop = 0;
  };
  const choose = async (place) => {
    current = place;
    const top = place * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    const name = part(matches[place])[0];
    history.replaceState(null, "", `#${name}/${index.row[matches[place]]}`); // a link to this question
    const q = matches[place], questions = await chunk(Math.floor(q / index.chunk));
    if (current === place && matches[place] === q) detail(q, questions[q % index.chunk]);
  };
  const openLinked = () => {
    const [name, row] = decodeURIComponent(location.hash.slice(1)).split("/");
    const place = matches.findIndex((q) => part(q)[0] === name && String(index.row[q]) === row);
    if (place >= 0) choose(place);
  };
  filter();
  openLinked();
  addEventListener("hashchange", openLinked);
  document.documentElement.dataset.ready = String(Math.round(performance.now())); // milliseconds since the page was asked for
})();
