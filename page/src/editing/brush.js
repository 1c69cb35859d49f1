/** Which voxels a stroke covers. */

import { Grid } from "./grid.js";

/**
 * List the voxels of one slice whose centres lie within a radius of a line, as a round brush leaves them.
 *
 * @param {Grid} grid
 * @param {number} normal axis that stands on the slice
 * @param {number[]} from voxel where the line begins
 * @param {number[]} to voxel where it ends, in the same slice
 * @param {number} radius in millimetres; the voxels on the line itself are always covered
 * @returns {number[]} their indices, each once
 */
export function strokeVoxels(grid, normal, from, to, radius) {
  const [a, b] = Grid.inPlane(normal);
  const step = [grid.spacing[a], grid.spacing[b]];
  const start = [from[a] * step[0], from[b] * step[1]];
  const way = [to[a] * step[0] - start[0], to[b] * step[1] - start[1]];
  const length = way[0] ** 2 + way[1] ** 2;
  const reach = Math.max(radius, Math.min(...step) / 2);
  const found = [];
  for (let v = lowest(b, from, to, reach, grid); v <= highest(b, from, to, reach, grid); v++) {
    for (let u = lowest(a, from, to, reach, grid); u <= highest(a, from, to, reach, grid); u++) {
      const away = [u * step[0] - start[0], v * step[1] - start[1]];
      const along = length ? clamp((away[0] * way[0] + away[1] * way[1]) / length, 0, 1) : 0;
      const distance = (away[0] - along * way[0]) ** 2 + (away[1] - along * way[1]) ** 2;
      if (distance <= reach ** 2 + 1e-9) {
        found.push(u * grid.strides[a] + v * grid.strides[b] + from[normal] * grid.strides[normal]);
      }
    }
  }
  return found;
}

function lowest(axis, from, to, reach, grid) {
  return Math.max(0, Math.ceil(Math.min(from[axis], to[axis]) - reach / grid.spacing[axis]));
}

function highest(axis, from, to, reach, grid) {
  return Math.min(grid.dims[axis] - 1, Math.floor(Math.max(from[axis], to[axis]) + reach / grid.spacing[axis]));
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
