// The start: the list, the question that the address names, and the words of the questions once they are unpacked.
/** The suite ("" where it names none), part and row of an address; null where it is none of a question. */
const parseAddress = (address) => {
  const match = /^#(?:([^:/]*):)?([^:/]+)\/(\d+)$/.exec(address);
  if (!match) return null;
  try {
    return [decodeURIComponent(match[1] || ""), decodeURIComponent(match[2]), Number(match[3])];
  } catch {
    return null; // `%` without two digits after it
  }
};
const openAddress = () => {
  const address = parseAddress(location.hash);
  if (!address) return false;
  const [suite, part, row] = address;
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
