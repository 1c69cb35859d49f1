/** Brush, eraser, fill and outline: what a pointer does on the main pane. */

import { byId, element } from "../dom.js";
import { strokeVoxels } from "./brush.js";
import { areaAround, insideOutline } from "./fill.js";

export const TOOLS = {
  look: { name: "Look", key: "v" },
  brush: { name: "Brush", key: "b" },
  eraser: { name: "Eraser", key: "e" },
  fill: { name: "Fill", key: "f" },
  outline: { name: "Outline", key: "o" },
};
const OPEN_AREA = "That area reaches the edge of the slice: close its outline first, then fill it.";

export class Pen {
  /**
   * @param {Stage} stage
   * @param {Object} desk
   * @param {() => Drawing|null} desk.drawing the mask to draw on, begun where there is none
   * @param {() => number} desk.value of the structure that is drawn
   * @param {() => void} desk.changed called after every step
   * @param {(text: string) => void} desk.tell
   */
  constructor(stage, desk) {
    this.stage = stage;
    this.desk = desk;
    this.tool = "look";
    this.stroke = null;
    this.dirty = null;
    for (const [name, { name: text, key }] of Object.entries(TOOLS)) {
      const press = () => this.choose(name);
      const title = `${text} (${key.toUpperCase()})`;
      byId("tools").append(element("button", { value: name, title, "aria-pressed": name === "look", onclick: press }, text));
    }
    byId("size").addEventListener("input", () => this.showSize());
    this.showSize();
  }

  get radius() {
    return Number(byId("size").value) / 2;
  }

  /** Take hold of the layer over the main pane, which is new with every first scan. */
  attach() {
    const ink = byId("ink");
    if (ink.dataset.attached) return;
    ink.dataset.attached = "yes";
    this.cursor = element("div.cursor");
    this.trace = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.trace.classList.add("outline");
    ink.append(this.trace, this.cursor);
    ink.addEventListener("pointerdown", (event) => this.down(event));
    ink.addEventListener("pointermove", (event) => this.move(event));
    ink.addEventListener("pointerup", (event) => this.up(event));
    ink.addEventListener("pointercancel", (event) => this.up(event));
    ink.addEventListener("pointerleave", () => (this.cursor.style.display = "none"));
    ink.addEventListener("contextmenu", (event) => event.preventDefault());
    this.choose(this.tool);
  }

  choose(tool) {
    this.tool = tool;
    this.showSize();
    for (const button of byId("tools").children) button.setAttribute("aria-pressed", button.value === tool);
    document.getElementById("ink")?.classList.toggle("active", tool !== "look");
    if (this.cursor) this.cursor.style.display = "none";
  }

  resize(step) {
    const size = byId("size");
    size.value = Number(size.value) + step;
    this.showSize();
  }

  showSize() {
    const size = Number(byId("size").value);
    const unit = this.stage.picture ? "px" : "mm";
    byId("size-mm").textContent = size ? `${size} ${unit}` : `1 ${this.stage.picture ? "pixel" : "voxel"}`;
  }

  down(event) {
    const at = this.stage.main.voxelAt(event.clientX, event.clientY);
    const drawing = at && event.button === 0 ? this.desk.drawing() : null;
    if (!drawing) return;
    event.preventDefault();
    event.target.setPointerCapture?.(event.pointerId);
    drawing.begin();
    this.stroke = { drawing, last: at, normal: at.normal, points: [at.exact], trail: [[event.clientX, event.clientY]] };
    if (this.tool === "fill") this.fill(at);
    else if (this.tool !== "outline") this.paintTo(at);
  }

  move(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of this.stroke && events.length ? events : [event]) this.moveTo(one);
    this.showCursor(event);
  }

  moveTo(event) {
    const { stroke } = this;
    const at = stroke && this.stage.main.voxelAt(event.clientX, event.clientY);
    if (!at || at.normal !== stroke.normal) return;
    if (this.tool === "outline") {
      stroke.points.push(at.exact);
      stroke.trail.push([event.clientX, event.clientY]);
      this.showTrail();
    } else if (this.tool !== "fill") this.paintTo(at);
  }

  up(event) {
    const { stroke } = this;
    if (!stroke) return;
    if (this.tool === "outline" && event.type === "pointerup" && stroke.points.length > 2) {
      const inside = insideOutline(this.stage.main.grid, stroke.normal, stroke.points);
      this.paint(inside, this.desk.value());
    }
    stroke.drawing.end();
    this.stroke = null;
    this.trace.replaceChildren();
    this.desk.changed();
  }

  paintTo(at) {
    const { stroke } = this;
    const { grid } = this.stage.main;
    this.paint(strokeVoxels(grid, stroke.normal, stroke.last.voxel, at.voxel, this.radius), this.tool === "eraser" ? 0 : this.desk.value());
    stroke.last = at;
  }

  fill(at) {
    const { grid, labels } = this.stage.main;
    const { voxels, open } = areaAround(labels, grid, at.normal, at.voxel);
    if (open) this.desk.tell(OPEN_AREA);
    else this.paint(voxels, this.desk.value());
  }

  paint(voxels, value) {
    if (!voxels.length) return;
    const chosen = this.desk.value();
    const kept = byId("protect").checked;
    this.stroke.drawing.paint(voxels, value, (old) => !kept || old === 0 || old === chosen);
    this.show(voxels);
  }

  /** Send the slices of these voxels to the screen, once a frame. */
  show(voxels) {
    const [, , area] = this.stage.main.grid.strides;
    let [first, last] = this.dirty ?? [Infinity, -1];
    for (const index of voxels) {
      const slice = Math.floor(index / area);
      if (slice < first) first = slice;
      if (slice > last) last = slice;
    }
    if (last < 0) return;
    if (!this.dirty) requestAnimationFrame(() => this.flush());
    this.dirty = [first, last];
  }

  flush() {
    const [first, last] = this.dirty;
    this.dirty = null;
    this.stage.main.refreshSlices(first, last);
  }

  showCursor(event) {
    const at = this.stage.main.voxelAt(event.clientX, event.clientY);
    const round = at && (this.tool === "brush" || this.tool === "eraser");
    this.cursor.style.display = round ? "block" : "none";
    if (!round) return;
    const box = byId("ink").getBoundingClientRect();
    const size = Math.max(4, 2 * this.radius * this.stage.main.pixelsPerMm(at.tile));
    Object.assign(this.cursor.style, {
      left: `${event.clientX - box.left}px`,
      top: `${event.clientY - box.top}px`,
      width: `${size}px`,
      height: `${size}px`,
    });
  }

  showTrail() {
    const box = byId("ink").getBoundingClientRect();
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", this.stroke.trail.map(([x, y]) => `${x - box.left},${y - box.top}`).join(" "));
    this.trace.replaceChildren(line);
  }
}
