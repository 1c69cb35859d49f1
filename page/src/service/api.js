/** The routes of the service, with the token where one is needed. */

import { EventReader } from "./server-sent.js";

const TOKEN = "fullscale-token";
const RETRY_MS = 2000;

/** An answer that is no success. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP
   * @param {string} detail one line of why
   * @param {Object} content of the answer
   */
  constructor(status, detail, content = {}) {
    super(detail);
    this.status = status;
    this.content = content;
  }
}

export class Api {
  /** @param {() => Promise<string>} askToken asks the person for the token */
  constructor(askToken) {
    this.askToken = askToken;
    this.asking = null;
  }

  get token() {
    return sessionStorage.getItem(TOKEN);
  }

  async json(path, options = {}) {
    return (await this.request(path, options)).json();
  }

  /**
   * Fetch bytes.
   *
   * @param {(share: number) => void} progress told from 0 to 1, where the size is known
   */
  async bytes(path, progress = () => {}) {
    const answer = await this.request(path);
    const total = Number(answer.headers.get("content-length"));
    const parts = [];
    let size = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      size += value.length;
      if (total) progress(Math.min(1, size / total));
    }
    return new Blob(parts).arrayBuffer();
  }

  /** Ask, with the token, and again where the service wants another. */
  async request(path, options = {}) {
    const headers = new Headers(options.headers);
    const { token } = this;
    if (token) headers.set("Authorization", `Bearer ${token}`);
    const answer = await fetch(path, { ...options, headers });
    if (answer.status === 401) {
      await this.renewToken(token);
      return this.request(path, options);
    }
    if (!answer.ok) throw await errorOf(answer);
    return answer;
  }

  /** Ask for the token once, however many requests wait for it. */
  async renewToken(refused) {
    if (this.token !== refused) return;
    this.asking ??= this.askToken(refused !== null).then((token) => {
      sessionStorage.setItem(TOKEN, token);
      this.asking = null;
    });
    await this.asking;
  }

  /**
   * Listen to news for as long as the page is open; a connection that is lost is made again.
   *
   * @param {(name: string, content: any) => void} onEvent
   * @param {(connected: boolean) => void} onState
   */
  async listen(onEvent, onState) {
    for (;;) {
      try {
        const answer = await this.request("events");
        onState(true);
        const events = new EventReader();
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          for (const { name, data } of events.take(value)) onEvent(name, JSON.parse(data));
        }
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) throw error;
      }
      onState(false);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function errorOf(answer) {
  const content = await answer.json().catch(() => ({}));
  const detail = typeof content.detail === "string" ? content.detail : `the service answered ${answer.status}`;
  return new ApiError(answer.status, detail, content);
}

/** Make a path of a route and what it asks for. */
export function route(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
