/** Which voxels a fill covers: an area of one value in a slice, or what an outline encloses. */

import { Grid } from "./grid.js";

/**
 * Find the area of one value around a voxel of a slice.
 *
 * @param {Uint8Array} labels
 * @param {Grid} grid
 * @param {number} normal axis that stands on the slice
 * @param {number[]} seed voxel to begin at
 * @returns {{voxels: number[], open: boolean}} indices, and whether the area reaches the border of the slice
 */
export function areaAround(labels, grid, normal, seed) {
  const [a, b] = Grid.inPlane(normal);
  const [width, height] = [grid.dims[a], grid.dims[b]];
  const base = seed[normal] * grid.strides[normal];
  const at = (u, v) => base + u * grid.strides[a] + v * grid.strides[b];
  const value = labels[at(seed[a], seed[b])];
  const seen = new Uint8Array(width * height);
  const waiting = [seed[a] + seed[b] * width];
  seen[waiting[0]] = 1;
  const voxels = [];
  let open = false;
  while (waiting.length) {
    const place = waiting.pop();
    const [u, v] = [place % width, Math.floor(place / width)];
    voxels.push(at(u, v));
    open ||= u === 0 || v === 0 || u === width - 1 || v === height - 1;
    for (const [du, dv] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      const [x, y] = [u + du, v + dv];
      if (x < 0 || y < 0 || x >= width || y >= height || seen[x + y * width]) continue;
      seen[x + y * width] = 1;
      if (labels[at(x, y)] === value) waiting.push(x + y * width);
    }
  }
  return { voxels, open };
}

/**
 * List the voxels of a slice whose centres lie inside a closed outline.
 *
 * @param {Grid} grid
 * @param {number} normal axis that stands on the slice
 * @param {number[][]} outline voxels along it, fractions allowed; it is closed from the last to the first
 * @returns {number[]} their indices
 */
export function insideOutline(grid, normal, outline) {
  const [a, b] = Grid.inPlane(normal);
  const corners = outline.map((voxel) => [voxel[a], voxel[b]]);
  const base = Math.round(outline[0][normal]) * grid.strides[normal];
  const rows = corners.map((corner) => corner[1]);
  const found = [];
  const last = Math.min(grid.dims[b] - 1, Math.floor(Math.max(...rows)));
  for (let v = Math.max(0, Math.ceil(Math.min(...rows))); v <= last; v++) {
    const crossings = crossingsOf(corners, v);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const end = Math.min(grid.dims[a] - 1, Math.floor(crossings[k + 1]));
      for (let u = Math.max(0, Math.ceil(crossings[k])); u <= end; u++) {
        found.push(base + u * grid.strides[a] + v * grid.strides[b]);
      }
    }
  }
  return found;
}

/** Where a closed outline crosses a row, from left to right. */
function crossingsOf(corners, row) {
  const found = [];
  corners.forEach(([x, y], k) => {
    const [nextX, nextY] = corners[(k + 1) % corners.length];
    if (y <= row !== nextY <= row) found.push(x + ((row - y) / (nextY - y)) * (nextX - x));
  });
  return found.sort((one, other) => one - other);
}
