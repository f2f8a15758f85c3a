/** Milliseconds that each answer took, in the order in which they came: `clients` requests are always under way until there are so many answers. */
export async function closedLoop(send: () => Promise<unknown>, clients: number, answers: number): Promise<number[]> {
  const latencies: number[] = [];
  const client = async (): Promise<void> => {
    while (latencies.length < answers) {
      const begin = performance.now();
      await send();
      latencies.push(performance.now() - begin);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return latencies.slice(0, answers);
}

/** The 95th percentile. */
export function p95Of(latencies: readonly number[]): number {
  const sorted = latencies.toSorted((a, b) => a - b);
  return sorted[Math.ceil(0.95 * sorted.length) - 1] ?? NaN;
}
