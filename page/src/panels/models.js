/** The circle: corrected cases, trainings on them, and the comparison by which a person chooses a model. */

import { element, tell } from "../dom.js";
import { clock, score } from "../words.js";

const LOOK_MS = 2000;

/** Show the models and what was learned from corrections, until the person closes it. */
export async function showModels(api) {
  const content = element("div", {});
  const dialog = element(
    "dialog",
    { "aria-label": "Models" },
    element("h2", {}, "Models"),
    element("p.note", {}, "A model can learn from finished masks. Every fourth of them is held out, and the new model is compared with the old one on those. Nothing is replaced until you choose."),
    content,
    element("div.buttons", {}, element("button.primary", { onclick: () => dialog.close(), autofocus: true }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
  let corrected = {};
  const look = async () => {
    const found = await allOf(api, corrected);
    content.replaceChildren(...found.map((one) => drawModel(one, (act) => attempt(act, look))));
  };
  await attempt(async () => (corrected = await correctedOf(api)), look);
  const timer = setInterval(() => content.contains(document.activeElement) || attempt(look), LOOK_MS);
  dialog.addEventListener("close", () => {
    clearInterval(timer);
    dialog.remove();
  });
}

async function attempt(act, after = () => {}) {
  try {
    await act();
    await after();
  } catch (error) {
    tell(error.message, "error");
  }
}

/** The finished cases of each model: gathering them is work for the service, so they are asked for once. */
async function correctedOf(api) {
  const models = await api.json("models");
  const pairs = await Promise.all(models.map(async ({ name }) => [name, await api.json(`circle/${name}/cases`)]));
  return Object.fromEntries(pairs);
}

async function allOf(api, corrected) {
  const [models, trainings] = await Promise.all([api.json("models"), api.json("circle/trainings")]);
  return models.map((model) => ({
    api,
    model,
    corrected: corrected[model.name] ?? [],
    trainings: trainings.filter((one) => one.model === model.name),
  }));
}

function drawModel({ api, model, corrected, trainings }, act) {
  const held = corrected.filter((one) => one.held_out).length;
  const minutes = element("input", { type: "number", value: "30", min: "0.1", step: "any", "aria-label": "Minutes of training" });
  const train = () => act(() => post(api, `circle/${model.name}/trainings`, { minutes: Number(minutes.value) }));
  const busy = trainings.some(({ state }) => state === "running");
  return element(
    "section.model",
    {},
    element("h3", {}, model.name, element("span.badge", {}, model.digest.slice(0, 12))),
    element("p.note", {}, `${corrected.length} finished ${corrected.length === 1 ? "case" : "cases"}: ${corrected.length - held} to learn from, ${held} held out.`),
    element("div.train", {}, element("label", {}, minutes, " minutes"), element("button", { disabled: busy, onclick: train }, "Train on them")),
    ...trainings.map((one) => drawTraining(api, one, act)),
  );
}

function drawTraining(api, one, act) {
  const choice = `circle/${one.model}/choice`;
  const running = one.state === "running" || one.state === "interrupted";
  return element(
    "article",
    {},
    element("p", {}, element("strong", {}, `Training of ${clock(one.created)}: `), stateOf(one)),
    one.progress && running && element("progress", one.progress.total ? { max: one.progress.total, value: one.progress.done } : {}),
    one.comparison && comparisonTable(one),
    one.comparison?.mean && element("p.note", {}, `Mean Dice of the new model: ${one.comparison.mean.verdict}.`),
    element(
      "div.buttons",
      {},
      running && element("button", { onclick: () => act(() => api.json(`circle/trainings/${one.id}`, { method: "DELETE" })) }, "Stop"),
      one.state === "done" && !one.chosen && element("button.primary", { onclick: () => act(() => put(api, choice, { training: one.id })) }, "Serve the new model"),
      one.chosen && element("button", { onclick: () => act(() => api.json(choice, { method: "DELETE" })) }, "Serve the old model again"),
    ),
  );
}

function stateOf(one) {
  if (one.chosen) return "its model is served.";
  if (one.state === "failed") return `failed, ${one.failure}`;
  return one.state === "done" ? "done; the old model is served." : `${one.state}.`;
}

/** Dice of the new model and of the old on the cases held out, structure by structure. */
function comparisonTable({ comparison, held_out: held }) {
  const rows = Object.entries(comparison.classes).map(([value, found]) => [comparison.structures[value], found]);
  if (comparison.mean) rows.push(["mean", comparison.mean]);
  const heads = ["Dice", "new", "old", "difference", "95 %", "p"];
  return element(
    "table",
    {},
    element("caption", {}, `On ${held.length} held out: ${held.join(", ")}`),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map(([name, found]) => comparisonRow(name, found))),
  );
}

function comparisonRow(name, found) {
  const interval = found.interval ? `${score(found.interval[0])} to ${score(found.interval[1])}` : "too few cases";
  const p = found.adjusted_p ?? found.p_value;
  const cells = [name, score(found.mean), score(found.other_mean), `${found.difference > 0 ? "+" : ""}${score(found.difference)}`, interval, score(p)];
  return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
}

function post(api, path, content) {
  return send(api, path, "POST", content);
}

function put(api, path, content) {
  return send(api, path, "PUT", content);
}

function send(api, path, method, content) {
  return api.json(path, { method, body: JSON.stringify(content), headers: { "Content-Type": "application/json" } });
}
