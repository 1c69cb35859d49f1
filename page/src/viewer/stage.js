/** The panes side by side, and everything that decides how they show the scan. */

import { byId, element } from "../dom.js";
import { PLANES } from "../editing/grid.js";
import { LAYOUTS, Pane } from "./pane.js";
import { CT_WINDOWS, automaticRange, rangeOf, windowsFor } from "./windows.js";

const LAYOUT_NAMES = { all: "All", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", render: "3D" };
const NORMALS = { axial: 2, coronal: 1, sagittal: 0 };
export const MOST_PANES = 4;

export class Stage {
  /** @param {() => void} onLook told when another slice is shown */
  constructor(onLook) {
    this.onLook = onLook;
    this.panes = [];
    this.layout = "all";
    this.normal = 2;
    this.image = null;
    this.picture = false;
    this.flat = false;
    this.listenToControls();
  }

  get shownLayout() {
    return this.flat ? "axial" : this.layout;
  }

  get main() {
    return this.panes[0] ?? null;
  }

  /** Show nothing: what lies open is about to change. */
  async clear() {
    await this.setCount(1);
    this.image = null;
    this.where = null;
    this.main.clear();
    byId("where").textContent = "";
  }

  /** Show a scan in the one main pane. */
  async showScan(image, modality, picture) {
    this.image = image;
    this.picture = picture;
    this.main.showScan(image, picture);
    this.flat = this.main.grid.dims[2] === 1;
    byId("stage").classList.toggle("flat", this.flat);
    byId("window").replaceChildren(...windowsFor(modality).map((name) => element("option", { value: name }, name)));
    this.setWindow(byId("window").value);
    this.setLayout(this.layout);
    this.setOpacity();
    this.setScanIn3D();
    this.tellWhere();
  }

  /** Show so many panes; those beside the main one show the same scan. */
  async setCount(count) {
    while (this.panes.length > count) this.panes.pop().close();
    const figures = byId("panes");
    while (figures.children.length > count) figures.lastChild.remove();
    while (this.panes.length < count) await this.addPane(figures);
    figures.dataset.count = count;
  }

  async addPane(figures) {
    const place = element("div.canvas");
    const figure = element("figure.pane", {}, place, element("figcaption", { hidden: true }));
    if (!this.main) figure.append(element("div.ink", { id: "ink" }), element("div.loading", { id: "loading", role: "status" }));
    figures.append(figure);
    const pane = new Pane(place, {
      onMove: (where) => this.moved(pane, where),
      onTurn: () => this.others(pane),
      onWindow: (range) => this.setRange(range),
    });
    this.panes.push(pane);
    await pane.open();
    if (pane === this.main) return;
    pane.showScan(this.image, this.picture);
    pane.setLayout(this.shownLayout);
    pane.setWindow(this.range);
    pane.setOpacity(Number(byId("opacity").value));
    pane.setScanIn3D(byId("scan-in-3d").checked);
    pane.follow(this.main);
  }

  caption(k, text) {
    const caption = byId("panes").children[k].querySelector("figcaption");
    caption.textContent = text;
    caption.hidden = !text;
  }

  /** Show these planes; of a scan of one slice there is one. */
  setLayout(chosen) {
    this.layout = chosen;
    const layout = this.shownLayout;
    byId("stage").dataset.layout = layout;
    if (layout in NORMALS) this.normal = NORMALS[layout];
    for (const button of byId("layouts").children) {
      button.setAttribute("aria-pressed", button.value === layout);
    }
    for (const pane of this.panes) pane.setLayout(layout);
    this.tellWhere();
  }

  setWindow(name) {
    byId("window").value = name;
    const ct = CT_WINDOWS[name];
    const { hdr, img } = this.image;
    this.setRange(ct ? rangeOf(...ct) : automaticRange(img, hdr.scl_slope || 1, hdr.scl_inter));
  }

  setRange([low, high]) {
    this.range = [low, high];
    for (const pane of this.panes) pane.setWindow(this.range);
    byId("level").value = round((low + high) / 2);
    byId("width").value = round(high - low);
  }

  setOpacity() {
    for (const pane of this.panes) pane.setOpacity(Number(byId("opacity").value));
  }

  setScanIn3D() {
    for (const pane of this.panes) pane.setScanIn3D(byId("scan-in-3d").checked);
  }

  step(slices) {
    this.main?.step(this.normal, slices);
  }

  zoom(factor) {
    if (!this.main) return;
    this.main.zoom(factor);
    this.others(this.main);
  }

  resetView() {
    for (const pane of this.panes) if (pane.grid) pane.resetView();
  }

  moved(pane, where) {
    if (!this.image) return;
    this.others(pane);
    this.where = where;
    this.tellWhere();
  }

  others(pane) {
    for (const other of this.panes) if (other !== pane && other.grid) other.follow(pane);
  }

  tellWhere() {
    if (!this.main?.grid) return;
    this.onLook();
    const place = this.main.crosshair()[this.normal];
    const slider = byId("slice");
    slider.max = this.main.grid.dims[this.normal] - 1;
    slider.value = place;
    const value = this.where?.value === undefined ? "" : ` · ${round(this.where.value)}`;
    const plane = this.picture ? "" : `${PLANES[this.normal]} ${place + 1} of ${this.main.grid.dims[this.normal]}`;
    byId("where").textContent = plane + value;
  }

  /** Say how far something is that takes a while; nothing when it is done. */
  loading(text) {
    const line = document.getElementById("loading");
    if (line) line.textContent = text;
  }

  listenToControls() {
    for (const name of Object.keys(LAYOUTS)) {
      const press = () => this.image && this.setLayout(name);
      byId("layouts").append(element("button", { value: name, "aria-pressed": false, onclick: press }, LAYOUT_NAMES[name]));
    }
    const windowOf = () => {
      const [level, width] = [Number(byId("level").value), Number(byId("width").value)];
      if (this.image && width > 0) this.setRange(rangeOf(level, width));
    };
    byId("window").addEventListener("change", () => this.image && this.setWindow(byId("window").value));
    byId("level").addEventListener("change", windowOf);
    byId("width").addEventListener("change", windowOf);
    byId("opacity").addEventListener("input", () => this.setOpacity());
    byId("scan-in-3d").addEventListener("change", () => this.setScanIn3D());
    byId("slice").addEventListener("input", () => this.step(Number(byId("slice").value) - this.main.crosshair()[this.normal]));
    byId("slice-down").addEventListener("click", () => this.step(-1));
    byId("slice-up").addEventListener("click", () => this.step(1));
    byId("panes").addEventListener("wheel", (event) => this.wheel(event), { capture: true, passive: false });
    byId("panes").addEventListener("pointermove", (event) => this.notePlane(event), { capture: true });
  }

  /** One slice a step of the wheel; with Ctrl, or two fingers, larger and smaller. In 3D NiiVue does it. */
  wheel(event) {
    const pane = this.paneOf(event.target);
    const at = pane?.voxelAt(event.clientX, event.clientY);
    if (!at) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.ctrlKey) this.zoom(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    else {
      this.normal = at.normal;
      this.main.step(at.normal, event.deltaY < 0 ? 1 : -1);
    }
  }

  /** The slider moves through the plane that was touched last. */
  notePlane(event) {
    const pane = this.shownLayout === "all" ? this.paneOf(event.target) : null;
    const at = pane?.voxelAt(event.clientX, event.clientY);
    if (!at || at.normal === this.normal) return;
    this.normal = at.normal;
    this.tellWhere();
  }

  paneOf(target) {
    const figure = target.closest(".pane");
    return this.panes[[...byId("panes").children].indexOf(figure)] ?? null;
  }
}

function round(value) {
  return Math.abs(value) < 10 ? Number(value.toPrecision(3)) : Math.round(value);
}
