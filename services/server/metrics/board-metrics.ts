import { type BoardState, readBoard } from '../../../libs/energy/board.js';
import { Gauge, type Registry } from '../../../libs/telemetry/metrics.js';

type Entry = readonly [labels: Record<string, string>, value: number];

/** Registers clocks, load, temperatures and power mode, read when they are asked for. What cannot be read has no series. */
export function boardMetrics(registry: Registry, root: string): void {
  let reading: Promise<BoardState> | undefined;
  // All gauges of one scrape share a reading.
  const board = () => (reading ??= readBoard(root).finally(() => (reading = undefined)));
  const gauge = (
    name: string,
    help: string,
    labelNames: string[],
    entries: (state: BoardState) => readonly Entry[],
  ): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const state = await board();
        this.reset();
        for (const [labels, value] of entries(state)) this.set(labels, value);
      },
    });
  };
  gauge('heartwood_clock_hertz', 'Clock of the GPU, and of cores by the first that shares it.', ['device'], (state) =>
    Object.entries(state.clocks).map(([device, { hertz }]) => [{ device }, hertz]),
  );
  gauge('heartwood_clock_limit_hertz', 'The most that the governor may choose now.', ['device'], (state) =>
    Object.entries(state.clocks).flatMap(([device, { limit }]): Entry[] =>
      limit === undefined ? [] : [[{ device }, limit]],
    ),
  );
  gauge('heartwood_gpu_load_ratio', 'Load of the integrated GPU, 0 to 1.', ['device'], ({ gpuLoad }) =>
    gpuLoad === undefined ? [] : [[{ device: 'gpu' }, gpuLoad]],
  );
  gauge('heartwood_temperature_celsius', 'Temperature by thermal zone.', ['zone'], (state) =>
    Object.entries(state.temperatures).map(([zone, celsius]) => [{ zone }, celsius]),
  );
  gauge(
    'heartwood_power_mode_info',
    'Always 1; the labels say the mode of nvpmodel.',
    ['id', 'name'],
    ({ powerMode }) => (powerMode ? [[{ id: String(powerMode.id), name: powerMode.name ?? '' }, 1]] : []),
  );
}
