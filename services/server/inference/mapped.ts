/**
 * Each of what comes, changed. An iterator and no generator: of a stream of tokens every generator on the way costs several turns of the
 * queue of promises a token. Leaving the iteration, and what `change` throws, leave the source.
 */
export function mapped<From, To>(
  source: AsyncIterable<From>,
  change: (value: From) => To | Promise<To>,
): AsyncIterableIterator<To> {
  const iterator = source[Symbol.asyncIterator]();
  const leave = async (): Promise<void> => void (await iterator.return?.());
  return {
    async next() {
      const next = await iterator.next();
      if (next.done === true) return { done: true, value: undefined };
      try {
        const value = change(next.value);
        return { done: false, value: value instanceof Promise ? await value : value };
      } catch (thrown) {
        await leave();
        throw thrown;
      }
    },
    async return() {
      await leave();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
