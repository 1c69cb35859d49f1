/** What lies open: a case or the scan of a job, its masks, and the one that is being corrected. */

import { tell } from "./dom.js";
import { Drawing, countValues } from "./editing/drawing.js";
import { SeenSlices } from "./editing/seen.js";
import { masksOf } from "./panels/masks.js";
import { route } from "./service/api.js";
import { colourOf } from "./viewer/colours.js";
import { labelsOf, readImage } from "./viewer/pane.js";
import { MOST_PANES } from "./viewer/stage.js";

const DRAWING = "drawing";

export class Desk {
  /**
   * @param {Api} api
   * @param {Stage} stage
   * @param {() => void} changed called when the panels are to be drawn anew
   */
  constructor(api, stage, changed) {
    this.api = api;
    this.stage = stage;
    this.changed = changed;
    this.clear();
  }

  clear() {
    Object.assign(this, { details: null, job: null, masks: [], shown: null, beside: new Set(), structures: [], active: null });
    Object.assign(this, { drawing: null, drawn: null, counts: null, scores: null, scoreFailure: null });
    this.doubts = { warnings: [], notes: [] };
    this.kept = new Map();
    this.seenSlices = null;
    this.names = [];
    this.opening = Symbol("opening");
  }

  /** Version under which the correction was saved last; null where it never was. */
  get savedVersion() {
    return this.drawn?.version ?? null;
  }

  get unsaved() {
    return this.drawing?.changed ?? false;
  }

  /** The case that is open; null of an upload. */
  get caseName() {
    return this.details?.name ?? null;
  }

  /** Open a case with its newest mask, or the scan of a job with the job's. */
  async open({ caseName = null, job = null, channel = null, mask = null }, jobs) {
    this.clear();
    const { opening } = this;
    await this.stage.clear(); // else the scan that was open would stand under the name of this one
    if (caseName !== null) {
      this.details = await this.api.json(route("cases/details", { case: caseName }));
    } else {
      this.job = job;
    }
    if (opening !== this.opening) return;
    await this.showScan(opening, channel);
    if (opening !== this.opening) return;
    await this.listMasks(jobs);
    const first = this.masks.find(({ id }) => id === mask) ?? this.masks[0];
    if (first) await this.show(first.id);
    else this.useLabels(this.defaultLabels());
    this.changed();
  }

  async showScan(opening, channel) {
    const path = this.job ? route(`jobs/${this.job.id}/scan`, { channel }) : route("cases/scan", { case: this.caseName, channel });
    this.channel = channel;
    this.stage.loading("Loading the scan …");
    try {
      const bytes = await this.api.bytes(path, (share) => this.stage.loading(`Loading the scan … ${Math.round(100 * share)} %`));
      if (opening !== this.opening) return;
      const image = await readImage(bytes, "scan.nii");
      this.seenSlices = null;
      await this.stage.showScan(image, this.details?.modality ?? this.job?.modality ?? "", this.details?.picture ?? false);
      this.seenSlices = new SeenSlices(this.stage.main.grid.dims[2], this.stage.main.headFoot);
      this.look();
    } finally {
      this.stage.loading("");
    }
  }

  /** Take down which slice is shown. */
  look() {
    const { shownLayout, main } = this.stage;
    if (this.seenSlices && (shownLayout === "all" || shownLayout === "axial")) this.seenSlices.add(main.crosshair()[2]);
  }

  /** List the masks there are now; what was drawn stays. */
  async listMasks(jobs) {
    if (this.job) {
      const result = await this.api.json(`jobs/${this.job.id}/result`);
      const mask = { id: `job-${this.job.id}`, job: this.job.id, title: this.job.model, about: "model", path: `jobs/${this.job.id}/mask.nii`, model: this.job.model, labels: result.labels };
      this.masks = [mask];
    } else {
      this.masks = masksOf(this.details, [...jobs.values()]);
    }
    this.names = [...new Set([...this.masks.flatMap(({ labels }) => Object.values(labels ?? {})), ...Object.values(this.defaultLabels())])];
    if (this.drawn) this.masks.unshift(this.drawn);
  }

  async refresh(jobs) {
    if (!this.details) return;
    const { opening } = this;
    const details = await this.api.json(route("cases/details", { case: this.caseName }));
    if (opening !== this.opening) return;
    this.details = details;
    await this.listMasks(jobs);
    this.changed();
  }

  defaultLabels() {
    return this.details ? this.details.structures[this.details.models[0]] : {};
  }

  mask(id) {
    return this.masks.find((mask) => mask.id === id) ?? null;
  }

  /** Show a mask in the main pane. */
  async show(id) {
    const { opening } = this;
    const labels = await this.labels(id);
    if (opening !== this.opening) return;
    this.beside.delete(id);
    this.shown = id;
    Object.assign(this, { scores: null, scoreFailure: null });
    this.counts = id === DRAWING ? this.drawing.counts : countValues(labels);
    this.stage.main.showMask(labels);
    this.useLabels(this.mask(id).labels);
    await this.showBeside();
    this.doubts = await this.doubtsOf(this.mask(id));
    this.changed();
  }

  /** What a model says of a mask beside it. */
  async doubtsOf({ job }) {
    if (!job) return { warnings: [], notes: [] };
    return this.api.json(`jobs/${job}/result`).catch((error) => ({ warnings: [error.message], notes: [] }));
  }

  /** Show a mask beside the main one, or no longer. */
  async toggleBeside(id) {
    if (!this.beside.delete(id)) {
      if (this.beside.size >= MOST_PANES - 1) {
        tell(`At most ${MOST_PANES} masks stand side by side.`);
        return;
      }
      this.beside.add(id);
    }
    await this.showBeside();
    this.changed();
  }

  async showBeside() {
    const { opening } = this;
    const ids = [...this.beside];
    if (ids.length + 1 !== this.stage.panes.length) await this.stage.setCount(1 + ids.length);
    for (const [k, id] of ids.entries()) {
      const labels = await this.labels(id);
      if (opening !== this.opening) return;
      this.stage.panes[k + 1].showMask(labels);
      this.stage.panes[k + 1].showStructures(this.structuresOf(this.mask(id).labels));
      this.stage.caption(k + 1, this.mask(id).title);
    }
    this.stage.caption(0, ids.length ? (this.mask(this.shown)?.title ?? "") : "");
  }

  /** Values of a mask, which is fetched where it is not there. */
  async labels(id) {
    if (id === DRAWING) return this.drawing.labels;
    if (!this.kept.has(id)) {
      const { path, query } = this.mask(id);
      const { main } = this.stage;
      const image = await readImage(await this.api.bytes(route(path, query)), "mask.nii");
      const before = main.labels;
      const labels = labelsOf(main, image);
      if (this.shown !== null) main.showMask(before); // reading it took the pane
      this.forgetHidden();
      this.kept.set(id, labels);
    }
    return this.kept.get(id);
  }

  forgetHidden() {
    for (const id of [...this.kept.keys()]) if (id !== this.shown && !this.beside.has(id)) this.kept.delete(id);
  }

  structuresOf(labels) {
    const hidden = new Set(this.structures.filter(({ visible }) => !visible).map(({ name }) => name));
    return Object.entries(labels ?? {}).map(([value, name]) => ({
      value: Number(value),
      name,
      colour: colourOf(this.names.indexOf(name)),
      visible: !hidden.has(name),
    }));
  }

  useLabels(labels) {
    this.structures = this.structuresOf(labels);
    if (!this.structures.some(({ value }) => value === this.active)) this.active = this.structures[0]?.value ?? null;
    this.stage.main.showStructures(this.structures);
  }

  toggleStructure(value) {
    const one = this.structures.find((structure) => structure.value === value);
    one.visible = !one.visible;
    this.stage.main.showStructures(this.structures);
    [...this.beside].forEach((id, k) => this.stage.panes[k + 1]?.showStructures(this.structuresOf(this.mask(id).labels)));
    this.changed();
  }

  /** Millilitres of a value in the mask that is shown; of an image its pixels. */
  amount(value) {
    const count = this.counts?.[value] ?? 0;
    return this.details?.picture ? { pixels: count } : { ml: count * this.stage.main.grid.voxelMl };
  }

  /** The mask that is drawn on: a copy of the one that is shown, or an empty one. */
  draw() {
    if (!this.stage.main?.grid) return null;
    if (this.shown === DRAWING) return this.drawing;
    if (this.active === null) {
      tell("There is no structure to draw: the models of this service know none for this scan.", "error");
      return null;
    }
    if (this.unsaved) {
      tell("Your correction is not saved yet: choose it in the list of masks, or save it first.", "error");
      return null;
    }
    this.beginDrawing();
    return this.drawing;
  }

  beginDrawing() {
    const from = this.mask(this.shown);
    this.drawing = new Drawing(this.stage.main.labels.slice());
    const about = from ? `begun from ${from.title}, not saved` : "not saved";
    const labels = from?.labels ?? this.defaultLabels();
    this.drawn = { id: DRAWING, title: "Your correction", about, labels, model: from?.model, begunFrom: from?.job };
    this.seen = this.details ? newestOfEach(this.details.annotations) : {};
    this.masks = [this.drawn, ...this.masks.filter(({ id }) => id !== DRAWING)];
    this.shown = DRAWING;
    this.counts = this.drawing.counts;
    this.doubts = { warnings: [], notes: [] };
    this.stage.main.showMask(this.drawing.labels);
    Object.assign(this, { scores: null, scoreFailure: null });
    this.changed();
  }

  /** Give the correction up, and show what it was begun from. */
  async discard() {
    const from = this.masks.find(({ job }) => job && job === this.drawn.begunFrom) ?? this.masks.find(({ id }) => id !== DRAWING);
    Object.assign(this, { drawing: null, drawn: null, shown: null, counts: null });
    this.masks = this.masks.filter(({ id }) => id !== DRAWING);
    this.beside.delete(DRAWING);
    if (from) await this.show(from.id);
    else this.stage.main.showMask(new Uint8Array(this.stage.main.grid.size));
    this.changed();
  }

  /** Take the last step back, or do it again. */
  travel(back) {
    if (this.shown !== DRAWING) return;
    if (back) this.drawing.undo();
    else this.drawing.redo();
    this.stage.main.showMask(this.drawing.labels);
    this.changed();
  }

  /**
   * Save the correction beside the data.
   *
   * @returns {Promise<{version: number, conflict: string|null}>} what the service made of it
   */
  async save({ who, note, tag, everySlice }) {
    const form = new FormData();
    form.append("labels", JSON.stringify(this.drawn.labels));
    if (this.drawn.model) form.append("model", this.drawn.model);
    form.append("based_on", String(this.seen[tag] ?? 0));
    if (this.drawn.begunFrom) form.append("job", this.drawn.begunFrom);
    if (!everySlice) form.append("viewed", JSON.stringify(this.seenSlices.asViewed()));
    form.append("who", who);
    form.append("note", note);
    form.append("mask", await compressed(await this.stage.main.maskFile()), "mask.nii.gz");
    let saved;
    let conflict = null;
    try {
      saved = await this.api.json(route("cases/annotations", { case: this.caseName, tag }), { method: "POST", body: form });
    } catch (error) {
      if (error.status !== 409 || !error.content.saved) throw error;
      saved = error.content.saved;
      conflict = error.message;
    }
    this.drawing.markSaved();
    this.drawn.version = saved.version;
    this.seen[tag] = saved.version;
    this.drawn.about = `saved as version ${saved.version}`;
    return { version: saved.version, conflict };
  }

  async score() {
    const { opening, shown } = this;
    const mask = this.mask(shown);
    try {
      const query = mask.job ? { job: mask.job } : { tag: mask.tag, version: mask.version };
      const scores = await this.api.json(route("cases/scores", { case: this.caseName, ...query }));
      if (opening === this.opening && shown === this.shown) this.scores = scores;
    } catch (error) {
      this.scoreFailure = error.message;
    }
    this.changed();
  }

  /** Whether the mask that is shown can be scored: it is a model's or a person's, and there is a truth. */
  get scorable() {
    const mask = this.mask(this.shown);
    if (!this.details || this.shown === DRAWING || !(mask?.job || mask?.version)) return false;
    const others = this.details.annotations.filter(({ tag, version }) => tag === "final" && !(mask.tag === tag && mask.version === version));
    return this.details.labelled || others.length > 0;
  }
}

function newestOfEach(annotations) {
  const newest = {};
  for (const { tag, version } of annotations) newest[tag] = Math.max(newest[tag] ?? 0, version);
  return newest;
}

async function compressed(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}
