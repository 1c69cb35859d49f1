import assert from "node:assert/strict";
import { test } from "node:test";

import { strokeVoxels } from "../src/editing/brush.js";
import { Drawing } from "../src/editing/drawing.js";
import { areaAround, insideOutline } from "../src/editing/fill.js";
import { Grid } from "../src/editing/grid.js";
import { SeenSlices } from "../src/editing/seen.js";

const grid = new Grid([9, 8, 7], [1, 2, 3]);

test("a brush covers the voxels within its radius in mm, in its slice alone", () => {
  const from = [2, 3, 3];
  for (const normal of [0, 1, 2]) {
    const to = from.map((value, axis) => (axis === Grid.inPlane(normal)[0] ? value + 3 : value));
    const found = strokeVoxels(grid, normal, from, to, 3.1).sort((one, other) => one - other);
    assert.deepEqual(found, voxelsNear(normal, from, to, 3.1));
  }
});

/** A plain twin: every voxel of the slice that is near to any of many points along the line. */
function voxelsNear(normal, from, to, radius) {
  const found = [];
  for (let k = 0; k < grid.size; k++) {
    const voxel = [k % 9, Math.floor(k / 9) % 8, Math.floor(k / 72)];
    const distances = Array.from({ length: 301 }, (_, t) =>
      Math.hypot(...voxel.map((v, axis) => (v - from[axis] - (t / 300) * (to[axis] - from[axis])) * grid.spacing[axis])),
    );
    if (voxel[normal] === from[normal] && Math.min(...distances) <= radius) found.push(k);
  }
  return found;
}

test("the smallest brush covers the voxel under it, at a corner too", () => {
  assert.deepEqual(strokeVoxels(grid, 2, [0, 0, 6], [0, 0, 6], 0), [grid.index([0, 0, 6])]);
});

test("a fill stays inside a closed line and says where it is open", () => {
  const labels = new Uint8Array(grid.size);
  const ring = [];
  for (let x = 2; x <= 6; x++) for (let y = 1; y <= 5; y++) if (x === 2 || x === 6 || y === 1 || y === 5) ring.push([x, y, 4]);
  for (const voxel of ring) labels[grid.index(voxel)] = 1;
  const inside = areaAround(labels, grid, 2, [4, 3, 4]);
  assert.equal(inside.open, false);
  assert.equal(inside.voxels.length, 9);
  assert.equal(areaAround(labels, grid, 2, [2, 1, 4]).voxels.length, ring.length);
  labels[grid.index([2, 3, 4])] = 0;
  assert.equal(areaAround(labels, grid, 2, [4, 3, 4]).open, true);
  assert.equal(areaAround(labels, grid, 0, [2, 3, 4]).voxels.every((k) => k % 9 === 2), true);
});

test("an outline encloses the voxels whose centres lie in it", () => {
  const found = insideOutline(grid, 2, [[0.5, 0.5, 4], [4.5, 0.5, 4], [4.5, 3.5, 4], [0.5, 3.5, 4]]);
  assert.equal(found.length, 12);
  assert.ok(found.includes(grid.index([1, 1, 4])) && found.includes(grid.index([4, 3, 4])));
  const triangle = insideOutline(grid, 1, [[0, 2, 0], [6, 2, 0], [0, 2, 6]]);
  assert.ok(triangle.includes(grid.index([1, 2, 1])) && !triangle.includes(grid.index([5, 2, 5])));
});

test("steps are taken back and done again, and counts follow", () => {
  const labels = new Uint8Array(100);
  const drawing = new Drawing(labels);
  const states = [labels.slice()];
  for (const [voxels, value] of [[[1, 2, 3], 1], [[2, 3, 4], 2], [[3], 0]]) {
    drawing.begin();
    drawing.paint(voxels, value);
    drawing.paint(voxels, value);
    drawing.end();
    states.push(labels.slice());
  }
  assert.deepEqual([...drawing.counts.slice(0, 3)], [97, 1, 2]);
  assert.equal(drawing.changed, true);
  for (const state of states.slice(0, -1).reverse()) {
    drawing.undo();
    assert.deepEqual(labels, state);
  }
  assert.equal(drawing.canUndo, false);
  assert.equal(drawing.changed, false);
  for (const state of states.slice(1)) {
    drawing.redo();
    assert.deepEqual(labels, state);
  }
  drawing.markSaved();
  assert.equal(drawing.changed, false);
  drawing.undo();
  assert.equal(drawing.changed, true);
  drawing.begin();
  drawing.paint([9], 1);
  drawing.end();
  assert.equal(drawing.canRedo, false);
});

test("protected values are not painted over, and a stroke over nothing is no step", () => {
  const drawing = new Drawing(Uint8Array.from([0, 1, 2]));
  drawing.begin();
  drawing.paint([0, 1, 2], 3, (old) => old !== 1);
  drawing.end();
  assert.deepEqual([...drawing.labels], [3, 1, 3]);
  drawing.begin();
  drawing.paint([0], 3);
  drawing.end();
  assert.equal(drawing.done.length, 1);
});

test("the oldest steps are forgotten where they take too much memory", () => {
  const drawing = new Drawing(new Uint8Array(100), 60);
  for (let k = 0; k < 5; k++) {
    drawing.begin();
    drawing.paint([1, 2, 3, 4, 5], k % 2 ? 0 : 1);
    drawing.end();
  }
  assert.equal(drawing.done.length, 2);
});

test("slices that were seen are told in the numbers of the file", () => {
  for (const [direction, slices] of [[3, [1, 4]], [-1, [3, 6]]]) {
    const seen = new SeenSlices(8, direction);
    for (const slice of [4, 1, 4]) seen.add(slice);
    assert.deepEqual(seen.asViewed(), { axis: Math.abs(direction) - 1, slices });
    assert.equal(seen.all, false);
  }
});
