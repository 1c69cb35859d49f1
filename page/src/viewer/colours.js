/** Colours of structures: told apart on grey, and by people who do not see red and green apart. */

const PALETTE = [
  [230, 97, 1], [0, 158, 224], [86, 200, 90], [240, 228, 66], [213, 62, 140], [120, 94, 240],
  [0, 190, 170], [254, 178, 76], [166, 118, 29], [178, 223, 138], [251, 128, 114], [140, 180, 255],
];
const GOLDEN_ANGLE = 137.508;

/** Red, green and blue of the structure that stands at a place of the list. */
export function colourOf(place) {
  return place < PALETTE.length ? PALETTE[place] : fromHue((place * GOLDEN_ANGLE) % 360);
}

export function cssColour([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/**
 * Make the table by which NiiVue colours values.
 *
 * @param {{value: number, colour: number[], visible: boolean}[]} structures
 * @returns {Uint8ClampedArray} red, green, blue and opacity of each of 256 values
 */
export function colourTable(structures) {
  const table = new Uint8ClampedArray(4 * 256);
  for (const { value, colour, visible } of structures) table.set([...colour, visible ? 255 : 0], 4 * value);
  return table;
}

function fromHue(hue) {
  const channel = (shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (0.6 - 0.38 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}
