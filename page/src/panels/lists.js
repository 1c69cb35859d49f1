/** The lists of cases and of jobs. */

import { byId, element } from "../dom.js";
import { clock } from "../words.js";

const ENDED = ["done", "failed", "cancelled"];

/** Draw the cases whose names hold what is searched for. */
export function drawCases(cases, { all, chosen, jobs, search, onOpen }) {
  const wanted = search.trim().toLowerCase();
  const shown = cases.filter(({ name }) => name.toLowerCase().includes(wanted));
  const busy = new Set([...jobs.values()].filter(({ state }) => !ENDED.includes(state)).map((job) => job.case));
  const rows = shown.map((one) =>
    element(
      "li",
      { class: `row${one.name === chosen ? " chosen" : ""}` },
      element("button.name", { title: one.name, "aria-current": one.name === chosen, onclick: () => onOpen(one.name) }, one.name),
      busy.has(one.name) && element("span.badge", {}, "working"),
      typeof one.doubt === "number" && element("span.badge.doubt", { title: "How little the model is sure, from 0 to 1" }, one.doubt.toFixed(2)),
      one.saved > 0 && element("span.badge", { title: `${one.saved} saved here` }, `saved ${one.saved}`),
      one.labelled && element("span.badge.truth", { title: "The data set has its truth" }, "truth"),
    ),
  );
  const nothing = cases.length ? "No case has such a name." : all ? "Every case has a truth." : "The service was started without --data. Segment a file below.";
  byId("case-list").replaceChildren(...(rows.length ? rows : [element("li.empty", {}, nothing)]));
}

/** Draw the jobs, the newest first. */
export function drawJobs(jobs, { chosen, onOpen, onCancel }) {
  const rows = [...jobs.values()].reverse().map((job) => {
    const name = job.case ?? "a file";
    const open = job.state === "done" && !job.removed;
    return element(
      "li",
      { class: `row${job.id === chosen ? " chosen" : ""} ${job.state}` },
      element(
        "button.name",
        { title: name, disabled: !open, onclick: () => onOpen(job) },
        name,
        element("span.about", {}, aboutJob(job)),
        job.state === "running" && progressOf(job),
      ),
      !ENDED.includes(job.state) &&
        element("button.small.quiet", { "aria-label": `Cancel the job of ${name}`, onclick: () => onCancel(job) }, "Cancel"),
    );
  });
  byId("job-list").replaceChildren(...(rows.length ? rows : [element("li.empty", {}, "Nothing was asked for yet.")]));
}

function aboutJob(job) {
  if (job.state === "running") return `${job.model} · ${job.progress?.item || "running"}`;
  if (job.state === "failed") return `${job.model} · ${job.failure}`;
  if (job.removed) return `${job.model} · removed`;
  return `${job.model} · ${job.state} ${clock(job.finished ?? job.created)}`;
}

function progressOf({ progress }) {
  return element("progress", progress?.total ? { max: progress.total, value: progress.done } : {});
}
