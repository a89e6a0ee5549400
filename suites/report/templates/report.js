// What the pages do in a browser: one view at a time, tables that sort and filter, addresses that say so.
"use strict";

// #VIEW, or #VIEW?table=ID&filter=WORDS&sort=COLUMN&dir=desc
function address() {
  const [view, rest] = decodeURIComponent(location.hash.slice(1)).split("?");
  return { view, state: new URLSearchParams(rest) };
}

const tables = new Map(); // id of a grid → its table, once its view was open

function shown(cell) {
  const value = cell.getValue();
  const text = document.createTextNode(Array.isArray(value) ? value[1] : value);
  const { link: ours, paper } = cell.getRow().getData();
  const link = cell.getColumn().getDefinition().title.startsWith("paper") ? paper : ours;
  if (!link || !(Array.isArray(value) || cell.getColumn().getField() === "0")) return text;
  const anchor = document.createElement("a");
  anchor.href = link;
  anchor.append(text);
  return anchor;
}

// A number by its value; what is none comes last whichever the direction.
function order(one, other, _row, _otherRow, _column, direction) {
  const [a, b] = [one, other].map((v) => (Array.isArray(v) ? v[0] : v));
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number" || typeof b === "number") {
    return (typeof a === "number" ? -1 : 1) * (direction === "asc" ? 1 : -1);
  }
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function build(holder) {
  const body = JSON.parse(holder.querySelector("script").textContent);
  const columns = body.columns.map((title, index) => {
    const values = body.rows.map((row) => row.cells[index]);
    const numbers = values.some(Array.isArray);
    const longest = Math.max(...values.map((value) => (Array.isArray(value) ? value[1] : value).length));
    return {
      title,
      field: String(index),
      formatter: shown,
      sorter: order,
      headerWordWrap: true,
      hozAlign: numbers ? "right" : "left",
      headerHozAlign: numbers ? "right" : "left",
      minWidth: Math.max(9 * Math.max(...title.split(/[\s/]/).map((word) => word.length)) + 26, numbers ? 8.5 * longest + 12 : 92),
      widthGrow: numbers ? 1 : 1 + Math.min(longest, 60) / 15,
      responsive: index < 2 ? 0 : index,
      accessorDownload: (value) => (Array.isArray(value) ? value[0] : value),
      variableHeight: true,
    };
  });
  const table = new Tabulator(holder.querySelector(".table"), {
    data: body.rows.map((row) => ({ ...row.cells, link: row.link, paper: row.paper })),
    columns,
    layout: "fitColumns",
    responsiveLayout: "collapse",
    responsiveLayoutCollapseStartOpen: true,
    maxHeight: body.rows.length > 45 ? "75vh" : false,
    renderVertical: body.rows.length > 45 ? "virtual" : "basic",
    columnHeaderSortMulti: false,
    placeholder: "No row has these words.",
    printAsHtml: true,
  });
  const ready = new Promise((resolve) => table.on("tableBuilt", resolve)).then(() => {
    reachable(table);
    table.on("dataSorted", (sorters) => {
      if (sorters.length) note(holder.id, { sort: sorters[0].field, dir: sorters[0].dir });
    });
    table.on("dataFiltered", (_, rows) => count(holder, rows.length, body.rows.length));
    count(holder, body.rows.length, body.rows.length);
    return table;
  });
  tables.set(holder.id, ready);
  return ready;
}

// Headers sort by keyboard too; the links in its rows are what the keyboard reaches of a table's body.
function reachable(table) {
  table.element.querySelector(".tabulator-tableholder").removeAttribute("tabindex");
  for (const header of table.element.querySelectorAll(".tabulator-col.tabulator-sortable")) {
    header.tabIndex = 0;
    header.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      header.click();
    });
  }
}

function count(holder, left, all) {
  holder.querySelector(".count").textContent = left === all ? `${all} rows` : `${left} of ${all} rows`;
}

function has({ link, paper, ...cells }, words) {
  const text = Object.values(cells).flat().join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function filter(table, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length) table.setFilter((row) => has(row, wanted));
  else table.clearFilter();
}

// The address says what a table shows, without a step in the history for each letter.
function note(id, changes) {
  const { view, state } = address();
  if (state.get("table") !== id) for (const key of [...state.keys()]) state.delete(key);
  state.set("table", id);
  for (const [key, value] of Object.entries(changes)) value ? state.set(key, value) : state.delete(key);
  const own = document.getElementById(id).closest(".view").id;
  history.replaceState(null, "", `#${own || view}?${state}`);
}

async function open() {
  const { view, state } = address();
  const wanted = document.getElementById(view);
  const section = wanted?.closest(".view") ?? document.querySelector(".view");
  for (const one of document.querySelectorAll(".view")) one.classList.toggle("open", one === section);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${section.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const holder of section.querySelectorAll(".grid")) {
    if (!tables.has(holder.id) && !holder.closest("details.fold:not([open])")) build(holder);
  }
  const holder = document.getElementById(state.get("table") ?? view);
  if (!holder?.matches(".grid")) {
    if (wanted === section) scrollTo(0, 0);
    return;
  }
  holder.closest("details.fold")?.setAttribute("open", "");
  const table = await (tables.get(holder.id) ?? build(holder));
  const words = state.get("filter") ?? "";
  holder.querySelector("[data-filter]").value = words;
  filter(table, words);
  if (state.get("sort")) table.setSort(state.get("sort"), state.get("dir") ?? "asc");
  holder.scrollIntoView({ block: "nearest" });
}

function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function index() {
  document.documentElement.classList.add("scripted");
  addEventListener("hashchange", open);
  for (const fold of document.querySelectorAll("details.fold")) {
    fold.addEventListener("toggle", () => {
      const holder = fold.querySelector(".grid");
      if (fold.open && !tables.has(holder.id)) build(holder);
    });
  }
  document.addEventListener("input", async (event) => {
    const id = event.target.dataset.filter;
    if (!id) return;
    filter(await tables.get(id), event.target.value);
    note(id, { filter: event.target.value });
  });
  document.addEventListener("click", async (event) => {
    const { csv, copy, save: kept, name } = event.target.dataset;
    if (csv) (await tables.get(csv)).download("csv", `${csv}.csv`);
    if (copy) {
      await navigator.clipboard.writeText(document.getElementById(copy).textContent);
      event.target.textContent = "Copied";
    }
    if (kept) save(name, "text/x-bibtex", document.getElementById(kept).textContent);
  });
  tips();
  open();
}

// A mark's values beside the pointer.
function tips() {
  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.("[data-says]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.says;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 14)}px`;
  });
}

// A page of a record: the address holds words of cases, or names one cell.
function record() {
  const input = document.getElementById("words");
  const found = [...document.querySelectorAll("details.cell")];
  const matches = (cell, word) =>
    word.includes("=")
      ? cell.dataset.words.split(" ").some((own) => either(own, word))
      : `${cell.dataset.words} ${cell.querySelector(".name").textContent}`.includes(word);
  const show = () => {
    const words = input.value.split(/\s+/).filter(Boolean);
    const left = found.filter((cell) => {
      cell.hidden = !words.every((word) => matches(cell, word));
      return !cell.hidden;
    });
    document.querySelector(".count").textContent =
      left.length === found.length ? `${left.length} cells` : `${left.length} of ${found.length} cells`;
    return left;
  };
  const start = () => {
    const hash = decodeURIComponent(location.hash.slice(1));
    const named = document.getElementById(hash);
    input.value = named || hash === "main" ? "" : hash;
    const left = show();
    const first = named?.matches(".cell") ? named : hash && left.length === 1 ? left[0] : null;
    if (first) first.open = true;
    named?.scrollIntoView();
  };
  input.addEventListener("input", () => {
    show();
    history.replaceState(null, "", `#${encodeURIComponent(input.value)}`);
  });
  addEventListener("hashchange", start);
  start();
}

// `layer=peer|dense` is one of both; a field is known by the last part of its name too.
function either(own, word) {
  const [name, values] = word.split("=");
  return values.split("|").some((value) => own === `${name}=${value}` || own.endsWith(`.${name}=${value}`));
}

if (document.getElementById("words")) record();
else index();
