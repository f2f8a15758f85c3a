/** Tokens a second through gRPC streams. */
import type { InferenceClient } from '../../../services/server/client.js';

interface Arrival {
  readonly at: number;
  readonly tokens: number;
}

/**
 * Generates for `rows` streams at a time and counts the tokens that come while all of them are under way: from the last stream's first
 * token to the first stream's last.
 */
export async function streamedTokensPerSecond(
  client: InferenceClient,
  model: string,
  rows: number,
  promptTokens: number,
  steps: number,
): Promise<number> {
  const streams = await Promise.all(
    Array.from({ length: rows }, async (_, row): Promise<Arrival[]> => {
      const prompt = Array.from({ length: promptTokens }, (_, i) => ((row + 1) * 31 + i * 7) % 250);
      const asked = { model, prompt, sampling: { temperature: 0 }, maxTokens: steps, ignoreEos: true };
      const arrivals: Arrival[] = [];
      for await (const event of client.generate(asked, new AbortController().signal)) {
        if (event.kind === 'text') arrivals.push({ at: performance.now(), tokens: event.tokens.length });
      }
      return arrivals;
    }),
  );
  const from = Math.max(...streams.map((arrivals) => arrivals[0]!.at));
  const to = Math.min(...streams.map((arrivals) => arrivals.at(-1)!.at));
  const tokens = streams.flat().reduce((sum, each) => sum + (each.at > from && each.at <= to ? each.tokens : 0), 0);
  return (1000 * tokens) / (to - from);
}
