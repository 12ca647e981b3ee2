"use strict";
// Everything that is shown goes through textContent: nothing a model wrote is ever parsed as HTML.
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
  const HEIGHT = 28, MOST = 20000; // pixels of a line of the list; characters of a text that are shown at once

  // --- the table: a click on a heading sorts -------------------------------------------------------------------
  const number = (text) => {
    const found = text.replace(/[, ]/g, "").match(/^[+\-−]?\d+(\.\d+)?/);
    return found ? parseFloat(found[0].replace("−", "-")) : null;
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
    const made = make("option", text);
    made.value = value;
    select.append(made);
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
  let shown = [], chosen = -1;
  const list = at("list"), rows = at("rows");
  const part = (q) => index.parts[index.part[q]];
  const line = (place) => {
    const q = shown[place], [name, task] = part(q);
    const made = make("div", undefined, place === chosen ? "q chosen" : "q");
    made.dataset.place = place;
    const label = task === "mmlu" ? name.replace(/^mmlu_/, "MMLU ").replaceAll("_", " ") : titles[task] || name;
    made.append(make("span", `${label} · row ${index.row[q]}`, "name"));
    names.forEach((_, result) => {
      const score = index.scores[result][q];
      const text = score === null ? "–" : score === 1 ? "✓" : score === 0 ? "✗" : score.toFixed(2);
      const mark = make("span", text, good(score) ? "ok" : score === null ? "" : "bad");
      mark.title = names[result];
      made.append(mark);
    });
    return made;
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 10);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / HEIGHT) + 20);
    rows.style.top = `${first * HEIGHT}px`;
    rows.replaceChildren(...Array.from({ length: last - first }, (_, i) => line(first + i)));
  };
  const filter = () => {
    const task = at("task").value, keep = outcomes[at("outcome").value || 0][1], row = at("row").value.trim();
    shown = [];
    for (let q = 0; q < index.row.length; q++) {
      if (task && part(q)[1] !== task) continue;
      if (row && String(index.row[q]) !== row) continue;
      if (keep(q)) shown.push(q);
    }
    chosen = -1;
    at("count").textContent = `${shown.length.toLocaleString("en")} of ${index.row.length.toLocaleString("en")} questions`;
    at("height").style.height = `${shown.length * HEIGHT}px`;
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
    if (!step || !shown.length) return;
    event.preventDefault();
    choose(Math.min(shown.length - 1, Math.max(0, chosen + step)));
  });

  // --- one question --------------------------------------------------------------------------------------------
  const unpacked = new Map();
  const chunk = async (place) => {
    if (!unpacked.has(place)) {
      const bytes = Uint8Array.from(atob(at(`chunk-${place}`).textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      unpacked.set(place, JSON.parse(await new Response(stream).text()));
      if (unpacked.size > 20) unpacked.delete(unpacked.keys().next().value);
    }
    return unpacked.get(place);
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
  const answers = (one, asked) => (one.answers || []).flatMap((answer, place) => {
    const until = asked && asked.requests[place] ? asked.requests[place][2] : [];
    const nodes = [make("h4", `answer${until.length ? `, ends at ${JSON.stringify(until)}` : ""}`), ...text(answer, "picked")];
    const whole = one.whole && one.whole[place];
    if (whole) nodes.push(make("h4", "the whole of it, of which the protocol throws the first tokens away"), ...text(whole));
    return nodes;
  });
  // Choices as a table: a line a choice, a column a result. ✓ is the right one, bold is the one that was taken.
  const isChoices = (one) => Array.isArray(one.answers) && one.answers.length && one.answers.every((a) => typeof a === "number");
  const isRight = (one, place) => one.counted && (Array.isArray(one.gold) ? one.gold.includes(place) : one.gold === place);
  const table = (given, asked, metric) => {
    const requests = asked ? asked.requests : [], several = asked && asked.contexts.length > 1;
    const made = make("table", undefined, "choices"), head = make("tr");
    head.append(...["", "choice", ...given.map(([, name]) => name)].map((name) => make("th", name)));
    made.append(head);
    given[0][0].answers.forEach((_, place) => {
      const [number, continuation] = requests[place] || [0, null], line = make("tr");
      const said = continuation === null ? `${place}` : `${several ? `context ${number + 1}: ` : ""}${continuation.slice(0, MOST)}`;
      line.append(make("td", isRight(given[0][0], place) ? "✓" : "", "ok"), make("td", said, "said"));
      for (const [one] of given) {
        line.append(make("td", one.answers[place].toFixed(3), one.counted && one.prediction === place ? "number taken" : "number"));
      }
      made.append(line);
    });
    const rule = metric === "acc_norm" ? ": the highest per character" : metric === "mc2" ? ": the highest; the score is the share of the right ones" : ": the highest";
    const note = given[0][0].counted ? `log-probabilities; ✓ right, bold taken${rule}` : "log-probabilities, mc1's choices before mc2's";
    return [made, make("p", note, "hint")];
  };
  const verdict = (score) => (score === 1 ? "right" : score === 0 ? "wrong" : score.toFixed(4));
  const detail = (q, told) => {
    const nodes = [make("h3", `${part(q)[0]}, row ${index.row[q]}`)];
    const given = told.results.map((one, result) => [one, names[result]]).filter(([one]) => one !== null);
    const forms = new Map(); // what was asked, and of which results; where that is not known, by how many answers there are
    for (const pair of given) {
      const key = pair[0].asked ?? `unknown ${(pair[0].answers || []).length}`;
      forms.set(key, [...(forms.get(key) || []), pair]);
    }
    const golds = new Set(given.map(([one]) => JSON.stringify(one.gold)));
    const tables = given.every(([one]) => isChoices(one));
    if (golds.size === 1 && !(tables && given[0][0].counted)) nodes.push(make("h4", "right is"), ...text(given[0][0].gold));
    for (const [one, name] of given) {
      nodes.push(make("h3", `${name}: ${verdict(one.score)}`, good(one.score) ? "ok" : "bad"));
      if (!isChoices(one)) nodes.push(...answers(one, one.asked === null ? null : told.asked[one.asked]));
      if (!isChoices(one) || !one.counted) nodes.push(make("h4", "taken as"), ...text(one.prediction));
      if (golds.size > 1) nodes.push(make("h4", "right is"), ...text(one.gold));
    }
    for (const pairs of forms.values()) {
      const form = pairs[0][0].asked, asked = form === null ? null : told.asked[form], choices = pairs.filter(([one]) => isChoices(one));
      nodes.push(make("h3", `asked of ${pairs.map(([, name]) => name).join(", ")}`));
      if (choices.length) nodes.push(...table(choices, asked, metrics[part(q)[1]]));
      if (asked === null) {
        nodes.push(make("p", "What was asked is not in this page; write it with the rows (--benchmarks).", "hint"));
        continue;
      }
      asked.contexts.forEach((value, place) => {
        nodes.push(make("h4", asked.contexts.length > 1 ? `context ${place + 1}` : "context"), ...context(value));
      });
    }
    at("detail").replaceChildren(...nodes);
    at("detail").scrollTop = 0;
  };
  const choose = async (place) => {
    chosen = place;
    const top = place * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    const name = part(shown[place])[0];
    history.replaceState(null, "", `#${name}/${index.row[shown[place]]}`); // a link to this question
    const q = shown[place], told = await chunk(Math.floor(q / index.chunk));
    if (chosen === place && shown[place] === q) detail(q, told[q % index.chunk]);
  };
  const linked = () => {
    const [name, row] = decodeURIComponent(location.hash.slice(1)).split("/");
    const place = shown.findIndex((q) => part(q)[0] === name && String(index.row[q]) === row);
    if (place >= 0) choose(place);
  };
  filter();
  linked();
  addEventListener("hashchange", linked);
  document.documentElement.dataset.ready = String(Math.round(performance.now())); // milliseconds since the page was asked for
})();
