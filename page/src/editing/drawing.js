/** A mask that is being corrected: what was changed, how to take it back, and how much of each value there is. */

/** Bytes that steps back may take; the oldest are forgotten beyond. */
const MOST_REMEMBERED = 256 << 20;
const BYTES_A_VOXEL = 6;

export class Drawing {
  /**
   * @param {Uint8Array} labels value of each voxel; changed in place
   * @param {number} mostRemembered bytes that steps back may take
   */
  constructor(labels, mostRemembered = MOST_REMEMBERED) {
    this.labels = labels;
    this.counts = countValues(labels);
    this.mostRemembered = mostRemembered;
    this.done = [];
    this.undone = [];
    this.step = null;
    this.savedStep = null;
  }

  get canUndo() {
    return this.done.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  /** Whether it differs from what was saved last, or from where it began. */
  get changed() {
    return (this.done.at(-1) ?? null) !== this.savedStep;
  }

  /** Begin a step, which one undo takes back. */
  begin() {
    this.step = new Map();
  }

  /**
   * Give voxels a value within the step.
   *
   * @param {Iterable<number>} voxels indices
   * @param {number} value
   * @param {(old: number) => boolean} allowed whether a voxel of an old value may be changed
   */
  paint(voxels, value, allowed = () => true) {
    for (const index of voxels) {
      const old = this.labels[index];
      if (old === value || !allowed(old)) continue;
      if (!this.step.has(index)) this.step.set(index, old);
      this.set(index, value);
    }
  }

  /** End a step; one that changed nothing is none. */
  end() {
    const step = this.step;
    this.step = null;
    if (!step?.size) return;
    const indices = Uint32Array.from(step.keys());
    const before = Uint8Array.from(step.values());
    const after = Uint8Array.from(indices, (index) => this.labels[index]);
    this.done.push({ indices, before, after });
    this.undone = [];
    this.forgetOldest();
  }

  undo() {
    this.move(this.done, this.undone, "before");
  }

  redo() {
    this.move(this.undone, this.done, "after");
  }

  markSaved() {
    this.savedStep = this.done.at(-1) ?? null;
  }

  move(from, to, values) {
    const step = from.pop();
    if (!step) return;
    step.indices.forEach((index, k) => this.set(index, step[values][k]));
    to.push(step);
  }

  set(index, value) {
    this.counts[this.labels[index]]--;
    this.counts[value]++;
    this.labels[index] = value;
  }

  forgetOldest() {
    let left = this.mostRemembered;
    const kept = this.done.findLastIndex((step) => (left -= step.indices.length * BYTES_A_VOXEL) < 0);
    if (kept >= 0 && kept < this.done.length - 1) this.done.splice(0, kept + 1);
  }
}

/** Count the voxels of each value. */
export function countValues(labels) {
  const counts = new Uint32Array(256);
  for (let k = 0; k < labels.length; k++) counts[labels[k]]++;
  return counts;
}
