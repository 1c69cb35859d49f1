/** The page of the service: it puts lists, viewer and panels together. */

import { Desk } from "./desk.js";
import { byId, element, tell } from "./dom.js";
import { Pen, TOOLS } from "./editing/pen.js";
import { listenToKeys, plain, withCtrl } from "./keyboard.js";
import { askDiscard, askSave, askToken, askUpload, showHelp } from "./panels/dialogs.js";
import { drawCases, drawJobs } from "./panels/lists.js";
import { drawAmounts, drawAsk, drawDoubts, drawMasks, drawScores, drawStructures } from "./panels/masks.js";
import { showModels } from "./panels/models.js";
import { Api, route } from "./service/api.js";
import { LAYOUTS } from "./viewer/pane.js";
import { Stage } from "./viewer/stage.js";
import { windowsFor } from "./viewer/windows.js";
import { millilitres } from "./words.js";

class Page {
  constructor() {
    this.api = new Api(askToken);
    this.stage = new Stage(() => this.desk.look());
    this.desk = new Desk(this.api, this.stage, () => this.draw());
    this.pen = new Pen(this.stage, {
      drawing: () => this.desk.draw(),
      value: () => this.desk.active,
      changed: () => this.drawChanges(),
      tell,
    });
    this.cases = [];
    this.order = null;
    this.models = [];
    this.jobs = new Map();
  }

  async start() {
    this.listen();
    [this.cases, this.models] = await Promise.all([this.api.json("cases"), this.api.json("models")]);
    byId("order").append(...this.models.map(({ name }) => element("option", { value: name }, `doubt of ${name}`)));
    byId("order-label").hidden = !this.cases.some(({ labelled }) => !labelled);
    this.draw();
    this.api.listen(
      (name, content) => this.news(name, content),
      (connected) => (byId("connection").hidden = connected),
    );
    window.addEventListener("hashchange", () => this.attempt(() => this.openAsked()));
    await this.openAsked();
  }

  /** Open the case that the address names, such as #case=patient_7. */
  async openAsked() {
    const asked = new URLSearchParams(location.hash.slice(1)).get("case");
    if (asked && this.cases.some(({ name }) => name === asked)) await this.openCase(asked);
  }

  async news(name, content) {
    if (name === "jobs") {
      const finished = content.filter((job) => job.state === "done" && this.jobs.has(job.id) && this.jobs.get(job.id).state !== "done");
      for (const job of content) this.jobs.set(job.id, job);
      await this.attempt(() => this.jobsChanged(finished));
    } else if (name === "annotations") await this.attempt(() => this.savedByOthers());
  }

  async jobsChanged(finished) {
    if (finished.length) await this.reorder();
    this.drawLists();
    const mine = finished.filter((job) => job.case === this.desk.caseName && job.case !== null);
    if (!mine.length) return;
    await this.desk.refresh(this.jobs);
    if (!this.desk.unsaved) await this.desk.show(`job-${mine.at(-1).id}`);
  }

  async savedByOthers() {
    this.cases = await this.api.json("cases");
    await this.reorder();
    const known = new Set(this.desk.details?.annotations.map(({ tag, version }) => `${tag} ${version}`));
    await this.desk.refresh(this.jobs);
    if (this.saving) return;
    for (const { tag, version, who } of this.desk.details?.annotations ?? []) {
      if (!known.has(`${tag} ${version}`)) tell(`${who || "Somebody"} saved version ${version} of this case.`);
    }
  }

  /** Ask in which order cases stand: by name, or what a model is least sure of first. */
  async reorder() {
    const model = byId("order").value;
    this.order = model ? await this.api.json(`circle/${model}/order`) : null;
    byId("measure").hidden = !this.order?.some(({ doubt }) => doubt === null);
    this.drawLists();
  }

  /** Have the model segment the cases that it has not seen, to know its doubt. */
  async measure() {
    const { queued } = await this.api.json(`circle/${byId("order").value}/order`, { method: "POST" });
    tell(queued === 1 ? "One case is being segmented." : `${queued} cases are being segmented.`);
  }

  /** The cases in the order that was asked for. */
  ordered() {
    if (!this.order) return this.cases;
    const byName = new Map(this.cases.map((one) => [one.name, one]));
    return this.order.map(({ case: name, doubt }) => ({ ...byName.get(name), doubt }));
  }

  /** Do something that may fail, and say why it did. */
  async attempt(act) {
    try {
      await act();
    } catch (error) {
      tell(error.message, "error");
    }
  }

  async mayLeave() {
    return !this.desk.unsaved || (await askDiscard());
  }

  openCase(name, mask = null) {
    return this.open({ caseName: name, mask }, name);
  }

  async openJob(job) {
    if (job.case !== null) return this.openCase(job.case, `job-${job.id}`);
    const modality = this.models.find(({ name }) => name === job.model)?.modality;
    return this.open({ job: { ...job, modality } }, "a file");
  }

  async open(what, title) {
    if (!(await this.mayLeave())) return;
    await this.attempt(async () => {
      byId("title").replaceChildren(element("strong", {}, title));
      history.replaceState(null, "", what.caseName ? `#${new URLSearchParams({ case: what.caseName })}` : "#");
      await this.stage.setCount(1);
      this.pen.attach();
      await this.desk.open(what, this.jobs);
      this.showChannels();
      this.pen.showSize();
    });
    if (document.body.dataset.view === "cases") this.setView("masks");
    this.draw();
  }

  showChannels() {
    const channels = this.desk.details?.channels ?? this.models.find(({ name }) => name === this.desk.job?.model)?.channels ?? [];
    byId("channel-label").hidden = channels.length < 2;
    byId("channel").replaceChildren(...channels.map((name) => element("option", { selected: name === this.desk.channel }, name)));
  }

  async changeChannel() {
    const { desk } = this;
    const what = desk.job ? { job: desk.job } : { caseName: desk.caseName };
    if (await this.mayLeave()) await this.attempt(() => desk.open({ ...what, channel: byId("channel").value, mask: desk.shown }, this.jobs));
    this.showChannels();
  }

  ask(model) {
    const body = JSON.stringify({ model, case: this.desk.caseName });
    return this.attempt(() => this.api.json("jobs", { method: "POST", body, headers: { "Content-Type": "application/json" } }));
  }

  async upload() {
    const form = await askUpload(this.models);
    if (!form) return;
    await this.attempt(() => this.api.json("jobs", { method: "POST", body: form }));
    tell("The file was sent. Its mask can be opened from the list of jobs.");
  }

  cancel(job) {
    return this.attempt(() => this.api.json(`jobs/${job.id}`, { method: "DELETE" }));
  }

  async discard() {
    if (await this.mayLeave()) await this.attempt(() => this.desk.discard());
  }

  async save() {
    if (byId("save").disabled) return;
    const said = await askSave(this.desk.caseName, this.desk.seenSlices);
    if (!said) return;
    if (!this.desk.draw()) return; // a mask that is right as it is becomes a correction without a stroke
    this.saving = true;
    await this.attempt(async () => {
      const { version, conflict } = await this.desk.save(said);
      tell(conflict ?? `Saved as version ${version}.`, conflict ? "error" : "info");
      await this.desk.refresh(this.jobs);
    });
    this.saving = false;
    this.draw();
  }

  async download() {
    const bytes = await this.stage.main.maskFile();
    const link = element("a", { href: URL.createObjectURL(new Blob([bytes])), download: "mask.nii" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  draw() {
    this.drawLists();
    const { desk } = this;
    drawMasks(desk.masks, {
      shown: desk.shown,
      beside: desk.beside,
      onShow: (id) => this.attempt(() => desk.show(id)),
      onBeside: (id) => this.attempt(() => desk.toggleBeside(id)),
    });
    drawDoubts(desk.doubts);
    drawAsk(desk.details?.models ?? [], { onAsk: (model) => this.ask(model) });
    this.drawStructures();
    drawScores({ possible: desk.scorable, scores: desk.scores, failure: desk.scoreFailure, onScore: () => desk.score() });
    this.drawState();
  }

  drawLists() {
    drawCases(this.ordered(), { all: this.cases.length, chosen: this.desk.caseName, jobs: this.jobs, search: byId("search").value, onOpen: (name) => this.openCase(name) });
    drawJobs(this.jobs, { chosen: this.desk.job?.id, onOpen: (job) => this.openJob(job), onCancel: (job) => this.cancel(job) });
  }

  drawStructures() {
    const { desk } = this;
    drawStructures(desk.structures, {
      active: desk.active,
      amount: (value) => this.amount(value),
      onChoose: (value) => {
        desk.active = value;
        this.drawStructures();
      },
      onToggle: (value) => desk.toggleStructure(value),
    });
  }

  amount(value) {
    if (!this.desk.counts) return "";
    const { ml, pixels } = this.desk.amount(value);
    return ml === undefined ? `${pixels} px` : millilitres(ml);
  }

  /** Draw what a stroke changes. */
  drawChanges() {
    drawAmounts(this.desk.structures, (value) => this.amount(value));
    this.drawState();
  }

  drawState() {
    const { drawing, caseName, shown, job } = this.desk;
    const active = shown === "drawing" ? drawing : null;
    byId("undo").disabled = !active?.canUndo;
    byId("redo").disabled = !active?.canRedo;
    byId("discard").disabled = !active;
    byId("save").disabled = shown === null || caseName === null;
    byId("download").disabled = shown === null;
    byId("drawing-state").textContent = stateOf(this.desk, active, job);
  }

  setView(view) {
    document.body.dataset.view = view;
    for (const button of document.querySelectorAll(".views button")) button.setAttribute("aria-pressed", button.dataset.view === view);
  }

  nextCase(step) {
    const cases = this.ordered();
    const next = cases[cases.findIndex(({ name }) => name === this.desk.caseName) + step];
    if (next) this.openCase(next.name);
  }

  nextWindow() {
    const names = [...byId("window").options].map(({ value }) => value);
    if (names.length) this.stage.setWindow(names[(names.indexOf(byId("window").value) + 1) % names.length]);
  }

  toggleMask() {
    const opacity = byId("opacity");
    this.opacity = Number(opacity.value) ? opacity.value : this.opacity;
    opacity.value = Number(opacity.value) ? 0 : (this.opacity ?? 0.5);
    this.stage.setOpacity();
  }

  shortcuts() {
    const { stage, pen, desk } = this;
    return [
      ...Object.keys(LAYOUTS).map((layout, k) => ({ keys: [String(k + 1)], match: plain(String(k + 1)), about: `show ${layout === "all" ? "all planes" : layout === "render" ? "3D" : layout}`, act: () => stage.image && stage.setLayout(layout) })),
      { keys: ["↑", "↓"], match: plain("ArrowUp", "ArrowDown"), about: "next slice", act: ({ key }) => stage.step(key === "ArrowUp" ? 1 : -1) },
      { keys: ["Page↑", "Page↓"], match: plain("PageUp", "PageDown"), about: "ten slices further", act: ({ key }) => stage.step(key === "PageUp" ? 10 : -10) },
      { keys: ["+", "−", "0"], match: plain("+", "=", "-", "0"), about: "larger, smaller, whole", act: ({ key }) => (key === "0" ? stage.resetView() : stage.zoom(key === "-" ? 1 / 1.25 : 1.25)) },
      { keys: ["w"], match: plain("w"), about: "next window", act: () => stage.image && this.nextWindow() },
      { keys: ["m"], match: plain("m"), about: "hide or show the mask", act: () => this.toggleMask() },
      ...Object.entries(TOOLS).map(([tool, { name, key }]) => ({ keys: [key], match: plain(key), about: name.toLowerCase(), act: () => pen.choose(tool) })),
      { keys: ["[", "]"], match: plain("[", "]"), about: "smaller or larger brush", act: ({ key }) => pen.resize(key === "]" ? 1 : -1) },
      { keys: ["Ctrl z"], match: withCtrl("z"), about: "undo", act: () => desk.travel(true) },
      { keys: ["Ctrl Shift z"], match: withCtrl("z", true), about: "redo", act: () => desk.travel(false) },
      { keys: ["Ctrl s"], match: withCtrl("s"), about: "save", act: () => this.save() },
      { keys: ["n", "p"], match: plain("n", "p"), about: "next or previous case", act: ({ key }) => this.nextCase(key === "n" ? 1 : -1) },
      { keys: ["/"], match: plain("/"), about: "find a case", act: () => (this.setView("cases"), byId("search").focus()) },
      { keys: ["?"], match: plain("?"), about: "this help", act: () => this.help() },
    ];
  }

  help() {
    showHelp(this.shortcuts());
  }

  listen() {
    listenToKeys(this.shortcuts());
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    on("search", "input", () => this.drawLists());
    on("help-button", "click", () => this.help());
    on("models-button", "click", () => showModels(this.api));
    on("order", "change", () => this.attempt(() => this.reorder()));
    on("measure", "click", () => this.attempt(() => this.measure()));
    on("upload-button", "click", () => this.upload());
    on("channel", "change", () => this.changeChannel());
    on("undo", "click", () => this.desk.travel(true));
    on("redo", "click", () => this.desk.travel(false));
    on("discard", "click", () => this.discard());
    on("save", "click", () => this.save());
    on("download", "click", () => this.attempt(() => this.download()));
    for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => this.setView(button.dataset.view));
    this.setView("cases");
    window.addEventListener("beforeunload", (event) => this.desk.unsaved && event.preventDefault());
  }
}

function stateOf({ unsaved, savedVersion }, active, job) {
  if (job) return "A file that was sent has no place beside the data: download the mask.";
  if (!active) return "Choose a tool and draw: what is shown is copied first and stays as it is.";
  if (unsaved) return "Not saved yet.";
  return savedVersion === null ? "Nothing was changed yet." : `Saved as version ${savedVersion}.`;
}

const page = new Page();
page.attempt(() => page.start());
