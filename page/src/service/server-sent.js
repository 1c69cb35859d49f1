/** Server-sent events, read from a stream: a browser's own reader of them cannot send a token. */

export class EventReader {
  constructor() {
    this.rest = "";
  }

  /**
   * Take a piece of the stream.
   *
   * @param {string} text
   * @returns {{name: string, data: string}[]} the events that ended in it; comments are left out
   */
  take(text) {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop();
    return blocks.map(readEvent).filter((event) => event !== null);
  }
}

function readEvent(block) {
  const event = { name: "message", data: "" };
  let found = false;
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    if (line.startsWith("data: ")) {
      event.data += (found ? "\n" : "") + line.slice(6);
      found = true;
    }
  }
  return found ? event : null;
}
