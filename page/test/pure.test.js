import assert from "node:assert/strict";
import { test } from "node:test";

import { EventReader } from "../src/service/server-sent.js";
import { colourOf, colourTable } from "../src/viewer/colours.js";
import { automaticRange, rangeOf, windowsFor } from "../src/viewer/windows.js";

test("events are read whatever the pieces that they come in", () => {
  const text = 'event: jobs\ndata: [{"id": "a"}]\n\n: still here\n\nevent: annotations\ndata: {"saved": 1}\n\n';
  for (const size of [1, 7, text.length]) {
    const reader = new EventReader();
    const found = [];
    for (let k = 0; k < text.length; k += size) found.push(...reader.take(text.slice(k, k + size)));
    assert.deepEqual(found, [
      { name: "jobs", data: '[{"id": "a"}]' },
      { name: "annotations", data: '{"saved": 1}' },
    ]);
  }
});

test("the automatic window leaves out background and the brightest voxels, in the values of the scan", () => {
  const voxels = Int16Array.from({ length: 10_000 }, (_, k) => (k < 5000 ? 0 : k === 9999 ? 30_000 : 100 + (k % 100)));
  const [low, high] = automaticRange(voxels, 2, -10);
  assert.ok(low >= 190 && low <= 194, `${low}`);
  assert.ok(high >= 384 && high <= 390, `${high}`);
  assert.deepEqual(automaticRange(new Uint8Array(10)), [0, 1]);
});

test("CT has windows in HU and others have what fits them", () => {
  assert.deepEqual(windowsFor("MR"), ["automatic"]);
  assert.equal(windowsFor("CT")[0], "soft tissue");
  assert.deepEqual(rangeOf(40, 400), [-160, 240]);
});

test("structures have colours of their own, and hidden ones none", () => {
  const colours = Array.from({ length: 60 }, (_, k) => colourOf(k).join());
  assert.equal(new Set(colours).size, 60);
  const table = colourTable([{ value: 3, colour: [1, 2, 3], visible: true }, { value: 4, colour: [4, 5, 6], visible: false }]);
  assert.deepEqual([...table.slice(12, 20)], [1, 2, 3, 255, 4, 5, 6, 0]);
  assert.equal(table[3], 0);
});
