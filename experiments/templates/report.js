"use strict";

function sortBy(header) {
  const table = header.closest("table");
  const nth = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  const numeric = header.classList.contains("number");
  const rows = Array.from(table.tBodies[0].rows);
  const key = row => row.cells[nth].dataset.key;
  rows.sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    // What is missing comes last, whichever way.
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return down ? -order : order;
  });
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const header of document.querySelectorAll(".sortable thead th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    dialog.replaceChildren(button.querySelector("img").cloneNode());
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());

// What is folded away is printed too.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
