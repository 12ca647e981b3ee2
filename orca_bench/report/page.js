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
  const titles = Object.fromEntries(index.tasks);
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
  const right = (result, q) => index.scores[result][q] === 1;
  const wrong = (result, q) => index.scores[result][q] !== null && index.scores[result][q] < 1;
  names.forEach((name, a) => {
    outcomes.push([`${name}: right`, (q) => right(a, q)], [`${name}: wrong`, (q) => wrong(a, q)]);
  });
  names.forEach((name, a) => names.forEach((other, b) => {
    if (a !== b) outcomes.push([`${name} right, ${other} wrong`, (q) => right(a, q) && wrong(b, q)]);
  }));
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
      made.append(make("span", text, score === 1 ? "ok" : score === null ? "" : "bad"));
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
  const detail = (q, told) => {
    const [name] = part(q);
    const nodes = [make("h3", `${name}, row ${index.row[q]}`)];
    let before = "";
    told.forEach((one, result) => {
      if (one === null) return;
      nodes.push(make("h3", `${names[result]}: ${one.score === 1 ? "right" : one.score === 0 ? "wrong" : one.score}`));
      const asked = one.asked;
      if (asked === null) {
        nodes.push(make("p", "The requests are not in this page; publish with the rows (--benchmarks) to have them.", "hint"));
      } else if (JSON.stringify(asked.contexts) === before) {
        nodes.push(make("p", "The same contexts as above.", "hint"));
      } else {
        before = JSON.stringify(asked.contexts);
        asked.contexts.forEach((context, place) => {
          nodes.push(make("h4", asked.contexts.length > 1 ? `context ${place + 1}` : "context"), ...text(context));
        });
      }
      (one.answers || []).forEach((answer, place) => {
        const [context, continuation, until] = asked ? asked.requests[place] || [0, null, []] : [0, null, []];
        if (typeof answer === "number") {
          const where = asked && asked.contexts.length > 1 ? `, context ${context + 1}` : "";
          nodes.push(make("h4", `choice ${place}${where}: log-probability ${answer.toFixed(3)}`));
          if (continuation !== null) nodes.push(...text(continuation, place === one.prediction ? "picked" : ""));
        } else {
          nodes.push(make("h4", `answer${until.length ? `, ends at ${JSON.stringify(until)}` : ""}`), ...text(answer, "picked"));
          const whole = one.whole && one.whole[place];
          if (whole) nodes.push(make("h4", "the whole of it, of which the protocol throws the first tokens away"), ...text(whole));
        }
      });
      nodes.push(make("h4", "taken as"), ...text(one.prediction), make("h4", "right is"), ...text(one.gold));
    });
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
