/** Tokens a second through gRPC streams, and what it takes to read them. */
import { availableParallelism } from 'node:os';
import type { InferenceClient } from '../../../services/server/client.js';

interface Arrival {
  readonly at: number;
  readonly tokens: number;
}

export interface StreamedRate {
  readonly tokensPerSecond: number;
  /** CPU that this process, the client, took: of all cores of the machine, over the whole time. */
  readonly clientShare: number;
  /** How many tokens a message brings, in the mean. */
  readonly tokensPerPiece: number;
}

/**
 * Generates for `rows` streams at a time and counts the tokens that come while all of them are under way: from the last stream's first
 * token to the first stream's last.
 */
export async function streamedRate(
  client: InferenceClient,
  model: string,
  rows: number,
  promptTokens: number,
  steps: number,
): Promise<StreamedRate> {
  const [cpu, begun] = [process.cpuUsage(), performance.now()];
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
  const { user, system } = process.cpuUsage(cpu);
  const clientShare = (user + system) / 1000 / (performance.now() - begun) / availableParallelism();
  const from = Math.max(...streams.map((arrivals) => arrivals[0]!.at));
  const to = Math.min(...streams.map((arrivals) => arrivals.at(-1)!.at));
  const tokens = streams.flat().reduce((sum, each) => sum + (each.at > from && each.at <= to ? each.tokens : 0), 0);
  const tokensPerPiece = (rows * steps) / streams.flat().length;
  return { tokensPerSecond: (1000 * tokens) / (to - from), clientShare, tokensPerPiece };
}
