/** Values of which only the newest counts: whoever reads slowly misses those between. */
export interface Latest<T> extends AsyncIterable<T> {
  push(value: T): void;
  /** The newest value, if nobody has read it, is still read. */
  end(): void;
}

export function latestOf<T>(): Latest<T> {
  let newest: { value: T } | undefined;
  let ended = false;
  let wake = (): void => undefined;
  return {
    push(value) {
      newest = { value };
      wake();
    },
    end() {
      ended = true;
      wake();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        if (newest !== undefined) {
          const { value } = newest;
          newest = undefined;
          yield value;
        } else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
