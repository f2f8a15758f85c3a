import { invalid } from '../errors/error.js';
import { checkBoundRows, isView, type ResidentMemory, unbound } from './resident.js';
import type { LateRun, Session } from './runtime.js';
import { checkShape, checkTensor } from './tensor.js';

/** Whether a run fits a model. Throws INVALID_ARGUMENT naming the feed or the output that does not. */
export function checkRun(
  model: Pick<Session, 'inputs' | 'outputs'>,
  { feeds, outputs, into, rows, relay }: LateRun,
  memory?: ResidentMemory,
): void {
  if (rows && (memory === undefined || into === undefined)) throw invalid('rows: expected with a memory and with into');
  if (rows) checkBoundRows(memory!, rows);
  if (relay !== undefined && (memory?.relay === undefined || into === undefined))
    throw invalid('relay: expected with a memory that has one, and with into');
  const relayed = relay === undefined ? [] : memory!.relay!.inputs;
  const bound = rows ? memory!.bound.inputs : unbound.inputs;
  const symbols = new Map<string, number>();
  for (const info of model.inputs) {
    if (Object.hasOwn(bound, info.name) || relayed.includes(info.name)) continue;
    const value = feeds[info.name];
    if (value === undefined) throw invalid(`input ${info.name} is missing`);
    if (isView(value)) checkShape(info, value, symbols);
    else checkTensor(info, value, symbols);
  }
  for (const name of Object.keys(feeds)) {
    if (!model.inputs.some((info) => info.name === name)) {
      throw invalid(`unknown input ${name}, expected ${model.inputs.map((info) => info.name).join(', ')}`);
    }
  }
  for (const name of [...(outputs ?? []), ...Object.keys(into ?? {})]) {
    if (!model.outputs.some((info) => info.name === name)) {
      throw invalid(`unknown output ${name}, expected ${model.outputs.map((info) => info.name).join(', ')}`);
    }
  }
}
