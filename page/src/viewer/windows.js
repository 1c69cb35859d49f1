/** Windows: which values of a scan are black and which are white. */

/** Level and width in HU of windows that are common for CT. */
export const CT_WINDOWS = {
  "soft tissue": [40, 400],
  liver: [60, 160],
  lung: [-600, 1500],
  bone: [400, 1800],
  brain: [40, 80],
};

export const AUTOMATIC = "automatic";
const SAMPLES = 100_000;

/** The windows that can be chosen for a scan, the first of them being the one to begin with. */
export function windowsFor(modality) {
  return modality === "CT" ? [...Object.keys(CT_WINDOWS), AUTOMATIC] : [AUTOMATIC];
}

/** Lowest and highest value that a window shows. */
export function rangeOf(level, width) {
  return [level - width / 2, level + width / 2];
}

/**
 * Find the range from the 1st to the 99th percentile of what is not background, the lowest value of a scan.
 *
 * @param {ArrayLike<number>} voxels as they are stored
 * @param {number} slope of the values
 * @param {number} intercept of the values
 */
export function automaticRange(voxels, slope = 1, intercept = 0) {
  const every = Math.max(1, Math.floor(voxels.length / SAMPLES));
  const sample = [];
  for (let k = 0; k < voxels.length; k += every) if (Number.isFinite(voxels[k])) sample.push(voxels[k]);
  sample.sort((one, other) => one - other);
  const inside = sample.filter((value) => value > sample[0]);
  if (!inside.length) return [(sample[0] ?? 0) * slope + intercept, (sample[0] ?? 0) * slope + intercept + 1];
  const at = (share) => inside[Math.round(share * (inside.length - 1))] * slope + intercept;
  const [low, high] = [at(0.01), at(0.99)];
  return high > low ? [low, high] : [low, low + 1];
}
