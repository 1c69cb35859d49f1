/** Which slices a person was shown, so that nothing is learned from those that nobody looked at. */

export class SeenSlices {
  /**
   * @param {number} count axial slices of the scan, from feet to head
   * @param {number} direction axis of the file that they lie along, from 1; negative where it runs from head to feet
   */
  constructor(count, direction) {
    this.count = count;
    this.direction = direction;
    this.seen = new Set();
  }

  get all() {
    return this.seen.size >= this.count;
  }

  add(slice) {
    this.seen.add(slice);
  }

  /** What the service is told: an axis of the mask as it is stored, and numbers from 0. */
  asViewed() {
    const slices = [...this.seen].map((slice) => (this.direction > 0 ? slice : this.count - 1 - slice));
    return { axis: Math.abs(this.direction) - 1, slices: slices.sort((one, other) => one - other) };
  }
}
