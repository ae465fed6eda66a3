// A live stream of the API that comes back by itself. An EventSource would do for SKUs, but it can send no Cart-Token, and
// it gives up for good when an engine that recovers answers 503.

const PAUSE_MAX_MS = 5000;

/** Reads one stream until it is stopped. */
export class Stream {
  /**
   * `tell(event, data)` for each event; `state("open" | "away" | "gone")` as the connection comes, goes, or is refused
   * for good.
   */
  constructor(path, { token, tell, state = () => {} }) {
    this.path = path;
    this.token = token;
    this.tell = tell;
    this.state = state;
    this.last = "";
    this.abort = null;
  }

  start() {
    if (this.abort) return;
    this.abort = new AbortController();
    this.run(this.abort.signal);
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }

  async run(signal) {
    let pause_ms = 500;
    while (!signal.aborted) {
      const headers = { Accept: "text/event-stream" };
      if (this.token) headers["Cart-Token"] = this.token;
      if (this.last) headers["Last-Event-ID"] = this.last;
      try {
        const reply = await fetch(this.path, { headers, signal, cache: "no-store" });
        if (reply.ok) {
          this.state("open");
          pause_ms = 500;
          await this.read(reply.body.getReader());
        } else if (reply.status !== 503 && reply.status !== 429) {
          this.state("gone");
          return;
        }
      } catch {
        // The connection broke, or never was; the next one goes on where this one ended.
      }
      if (signal.aborted) return;
      this.state("away");
      await new Promise((done) => setTimeout(done, pause_ms));
      pause_ms = Math.min(pause_ms * 2, PAUSE_MAX_MS);
    }
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => this.take(block));
    }
  }

  take(block) {
    let name = "message";
    let data = "";
    for (const line of block.split("\n")) {
      const at = line.indexOf(": ");
      const [field, value] = at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 2)];
      if (field === "id") this.last = value;
      if (field === "event") name = value;
      if (field === "data") data += value;
    }
    if (data) this.tell(name, JSON.parse(data));
  }
}

/** Streams that are open while somebody looks: a browser has six connections, however many tabs there are. */
export class Streams {
  constructor() {
    this.open = new Map();
    document.addEventListener("visibilitychange", () => {
      for (const stream of this.open.values()) {
        if (document.hidden) stream.stop();
        else stream.start();
      }
    });
  }

  set(name, stream) {
    this.end(name);
    this.open.set(name, stream);
    if (!document.hidden) stream.start();
  }

  end(name) {
    this.open.get(name)?.stop();
    this.open.delete(name);
  }
}
