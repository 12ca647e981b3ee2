// The start: the list, the question that the address names, and the words of the questions once they are unpacked.
const openAddress = () => {
  const match = /^#(?:([^:/]*):)?([^:/]+)\/(\d+)$/.exec(location.hash);
  if (!match) return false;
  const [suite, part, row] = [decodeURIComponent(match[1] || ""), decodeURIComponent(match[2]), Number(match[3])];
  const place = matches.findIndex((question) => {
    const [ownPart, , ownSuite] = partOf(question);
    return ownPart === part && index.rows[question] === row && (!suite || ownSuite === suite);
  });
  if (place < 0) return false;
  choose(place);
  byId("questions").scrollIntoView();
  return true;
};
byId("questions").hidden = questionCount === 0;
applyFilters();
unpackElement("list-words").then((words) => {
  listWords = words;
  drawLines();
  document.documentElement.dataset.ready = String(Math.round(performance.now())); // milliseconds since the page was asked for
});
// Without an address the first difference is open, so that the pane is not empty.
if (!openAddress() && questionCount) choose(Math.max(0, differences.indexOf(1)), false);
addEventListener("hashchange", openAddress);
