/** The masks of what is open, their structures, and how they score. */

import { byId, element, icon } from "../dom.js";
import { cssColour } from "../viewer/colours.js";
import { clock, percent, score } from "../words.js";

/**
 * Draw the masks: one is shown, and others can be shown beside it.
 *
 * @param {Object[]} masks with `id`, `title` and `about`
 * @param {Object} now `shown` is the id of one, `beside` those of others
 */
export function drawMasks(masks, { shown, beside, onShow, onBeside }) {
  const rows = masks.map((mask) => {
    const chosen = mask.id === shown;
    const side = beside.has(mask.id);
    return element(
      "li",
      { class: `row${chosen ? " chosen" : ""}` },
      element(
        "label.name",
        { title: `${mask.title}: ${mask.about}` },
        element("input", { type: "radio", name: "mask", checked: chosen, onchange: () => onShow(mask.id) }),
        element("span.what", {}, mask.title, element("span.about", {}, mask.about)),
      ),
      !chosen &&
        element(
          "button.small.quiet",
          { "aria-pressed": side, "aria-label": `Beside: ${mask.title}`, title: "Show it side by side with the chosen one", onclick: () => onBeside(mask.id) },
          icon("beside"),
        ),
    );
  });
  byId("mask-list").replaceChildren(...(rows.length ? rows : [element("li.empty", {}, "No mask yet.")]));
}

/** Offer a job of each model. */
export function drawAsk(models, { onAsk }) {
  byId("ask").replaceChildren(
    ...models.map((model) => element("button", { onclick: () => onAsk(model) }, `Segment with ${model}`)),
  );
}

/** Say why the mask that is shown may not be trusted, and what else its model notes. */
export function drawDoubts({ warnings, notes }) {
  byId("doubts").replaceChildren(
    ...warnings.map((line) => element("p.warning", { role: "note" }, line)),
    ...(notes.length ? [element("details", {}, element("summary", {}, "Notes"), ...notes.map((line) => element("p.note", {}, line)))] : []),
  );
}

/** Draw the structures with their volumes; one of them is drawn with. */
export function drawStructures(structures, { active, amount, onChoose, onToggle }) {
  const rows = structures.map((one) =>
    element(
      "li",
      { class: `row${one.value === active ? " chosen" : ""}` },
      element(
        "label.name",
        { title: `${one.name}, value ${one.value}` },
        element("input", { type: "radio", name: "structure", checked: one.value === active, onchange: () => onChoose(one.value) }),
        element("span.chip", { "aria-hidden": true }),
        element("span.what", {}, one.name),
      ),
      element("span.amount", { id: `amount-${one.value}` }, amount(one.value)),
      element(
        "button.small.quiet",
        { "aria-pressed": one.visible, "aria-label": `Show ${one.name}`, title: one.visible ? "Hide it" : "Show it", onclick: () => onToggle(one.value) },
        icon(one.visible ? "eye" : "hidden"),
      ),
    ),
  );
  rows.forEach((row, k) => (row.querySelector(".chip").style.backgroundColor = cssColour(structures[k].colour)));
  byId("structure-list").replaceChildren(...(rows.length ? rows : [element("li.empty", {}, "No structures.")]));
}

/** Write the volumes anew, as they change with every stroke. */
export function drawAmounts(structures, amount) {
  for (const { value } of structures) {
    const line = document.getElementById(`amount-${value}`);
    if (line) line.textContent = amount(value);
  }
}

/** Draw the scores of the mask that is shown, or offer them. */
export function drawScores({ possible, scores, failure, onScore }) {
  const box = byId("scores");
  if (failure) box.replaceChildren(element("p.note.error", {}, failure));
  else if (scores) box.replaceChildren(element("h2", {}, "Scores"), scoreTable(scores), element("p.note", {}, `Against the truth: ${scores.truth}. Distances in mm, NSD within 1 mm.`));
  else if (possible) box.replaceChildren(element("div.buttons", {}, element("button", { onclick: onScore }, "Score against the truth")));
  else box.replaceChildren();
}

function scoreTable({ structures }) {
  const heads = ["", "Dice", "NSD", "HD95", "volume"];
  const rows = Object.entries(structures).map(([name, one]) =>
    element(
      "tr",
      {},
      element("td", {}, name),
      element("td", {}, score(one.Dice)),
      element("td", {}, score(one.NSD)),
      element("td", {}, score(one.HD95, 1)),
      element("td", { title: "Error of the volume" }, percent(one.volume_error_percent)),
    ),
  );
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, ...rows));
}

/** List the masks of a case: of jobs, of people, and the truth. */
export function masksOf(details, jobs) {
  const done = jobs.filter((job) => job.case === details.name && job.state === "done" && !job.removed).reverse();
  const ofJobs = done.map((job) => ({
    id: `job-${job.id}`,
    job: job.id,
    title: job.model,
    about: `model, ${clock(job.finished)}`,
    path: `jobs/${job.id}/mask.nii`,
    model: job.model,
    labels: details.structures[job.model],
  }));
  const saved = details.annotations.map((one) => ({
    id: `saved-${one.tag}-${one.version}`,
    tag: one.tag,
    version: one.version,
    title: `${one.who || "somebody"}, version ${one.version}${one.tag === "final" ? "" : ` (${one.tag})`}`,
    about: `${clock(one.saved)}${one.note ? ` · ${one.note}` : ""}`,
    path: "cases/annotations/mask",
    query: { case: details.name, tag: one.tag, version: one.version },
    labels: one.labels,
  }));
  const [model] = details.models;
  const truth = { id: "truth", title: "Truth", about: "of the data set", path: "cases/truth", query: { case: details.name }, model, labels: details.structures[model] };
  return [...saved, ...ofJobs, ...(details.labelled ? [truth] : [])];
}
