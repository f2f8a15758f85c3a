/** llama.cpp in a process of its own (llama.mjs), which answers a line for a line. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The sources' folder, which has the package.json; this file runs from dist/. */
const home = fileURLToPath(new URL('../../../bench/llm-peers/', import.meta.url));

export interface LlamaRun {
  /** Of all tokens of the prompt but the last. */
  readonly prefillMs: number;
  /** Of the last and the generated ones. */
  readonly decodeMs: number;
  readonly ids: readonly number[];
}

export interface LlamaProcess {
  /** Greedy. */
  run(prompt: readonly number[], tokens: number): Promise<LlamaRun>;
  close(): Promise<void>;
}

/** Installs node-llama-cpp, and its binary for this processor alone, where they are missing. */
export async function installLlama(): Promise<void> {
  const binary = `@node-llama-cpp/${process.platform}-${process.arch}`;
  if (existsSync(join(home, 'node_modules', binary))) return;
  const { dependencies } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const flags = ['--no-audit', '--no-fund', '--loglevel=error'];
  for (const command of [
    ['ci', ...flags],
    ['install', '--no-save', ...flags, `${binary}@${dependencies['node-llama-cpp']}`],
  ]) {
    const { status } = spawnSync('npm', command, { cwd: home, stdio: ['ignore', 2, 2] });
    if (status !== 0) throw new Error(`npm ${command[0]} failed in ${home}`);
  }
}

/** Loads a GGUF file. */
export async function startLlama(load: {
  readonly model: string;
  readonly threads: number;
  readonly context: number;
  readonly batch: number;
}): Promise<LlamaProcess> {
  const child = spawn(process.execPath, [join(home, 'llama.mjs')], { cwd: home, stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async <T>(request: unknown): Promise<T> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await lines.next();
    if (line.done) throw new Error('llama.cpp ended before it had answered');
    const answer = JSON.parse(line.value) as T & { error?: string };
    if (answer.error !== undefined) throw new Error(`llama.cpp: ${answer.error}`);
    return answer;
  };
  await ask(load);
  return {
    run: (prompt, tokens) => ask<LlamaRun>({ prompt, tokens }),
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}
