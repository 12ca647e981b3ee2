// The tables of scores: a click on a heading sorts the table of models, a click on a task shows its questions.
for (const table of document.querySelectorAll("table.by-model")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const numberOf = (row, column) => {
    const number = row.cells[column].dataset.number;
    return number === undefined ? null : Number(number);
  };
  headings.forEach((heading, column) =>
    heading.querySelector("button").addEventListener("click", () => {
      const isDescending = heading.getAttribute("aria-sort") !== "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      const rows = [...body.rows].filter((row) => !row.classList.contains("reported"));
      rows.sort((left, right) => {
        if (column === 0) {
          const order = left.cells[0].textContent.localeCompare(right.cells[0].textContent);
          return isDescending ? -order : order;
        }
        const [leftNumber, rightNumber] = [numberOf(left, column), numberOf(right, column)];
        if (leftNumber === null || rightNumber === null) return (leftNumber === null) - (rightNumber === null); // last either way
        return isDescending ? rightNumber - leftNumber : leftNumber - rightNumber;
      });
      body.prepend(...rows);
    }),
  );
}

document.addEventListener("click", (event) => {
  const element = event.target.closest("[data-task]");
  if (!element || !(element.dataset.task in taskTitles)) return;
  event.preventDefault();
  byId("task").value = element.dataset.task;
  applyFilters();
  byId("questions").scrollIntoView();
});
