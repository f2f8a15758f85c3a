/** Which tests of a file have begun and not ended: of a file that is ended by its time limit, where it hung. */
export class OpenTests {
  #files = new Map();

  /** A test is about to have its turn, or will have it when those before it have ended. */
  enqueued({ file, name, nesting }) {
    if (name === file) return;
    if (!this.#files.has(file)) this.#files.set(file, []);
    this.#files.get(file).push({ name, nesting });
  }

  ended({ file, name, nesting }) {
    const open = this.#files.get(file) ?? [];
    const at = open.findIndex((test) => test.name === name && test.nesting === nesting);
    if (at >= 0) open.splice(at, 1);
  }

  /** `suite > test`, where tests take turns the first that is open of each depth; undefined where none is. */
  of(file) {
    const open = this.#files.get(file) ?? [];
    const path = [];
    for (let depth = 0; ; depth++) {
      const test = open.find(({ nesting }) => nesting === depth);
      if (test === undefined) return path.length > 0 ? path.join(' > ') : undefined;
      path.push(test.name);
    }
  }
}
